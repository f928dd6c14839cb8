import { execFileSync } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Owner } from "./process.js";

/** A certificate for 127.0.0.1 and localhost that signs itself. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
  /** Files of both, in PEM. */
  readonly certFile: string;
  readonly keyFile: string;
  /** The flag by which Chromium trusts it, and nothing else that is not in order. */
  readonly chromiumFlag: string;
}

/** Makes a certificate by openssl. Its files are gone when the owner ends. */
export function makeCertificate(owner: Owner): Certificate {
  const dir = mkdtempSync(join(tmpdir(), "presence-tls-"));
  owner.after(() => rmSync(dir, { recursive: true, force: true }));
  const certFile = join(dir, "server.pem");
  const keyFile = join(dir, "server.key");
  const args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost";
  const names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"];
  execFileSync("openssl", [...args.split(" "), ...names, "-keyout", keyFile, "-out", certFile], { stdio: "pipe" });
  const cert = readFileSync(certFile, "utf8");
  const key = new X509Certificate(cert).publicKey.export({ type: "spki", format: "der" });
  const hash = createHash("sha256").update(key).digest("base64");
  const chromiumFlag = `--ignore-certificate-errors-spki-list=${hash}`;
  return { cert, key: readFileSync(keyFile, "utf8"), certFile, keyFile, chromiumFlag };
}
