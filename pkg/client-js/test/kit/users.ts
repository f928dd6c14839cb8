import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Certificate } from "./certificate.js";
import { presencectl } from "./commands.js";
import type { Owner } from "./process.js";

/** What to connect with: options of a NATS client. */
export interface Login {
  user: string;
  pass: string;
  inboxPrefix: string;
}

/** Roles of those in the configuration who are no users. */
const roles: Record<string, string> = { gw1: "gateway", reader: "reader", operator: "operator" };

/** A configuration as `presencectl nats-config` writes it, with WebSocket switched on. */
export interface UsersConfig {
  /** For presenced's --nats-config. */
  readonly file: string;
  /** By name: the users, and "gw1", "reader", "operator". */
  readonly logins: ReadonlyMap<string, Login>;
  /** Where the server listens for WebSocket, host:port. */
  readonly webSocket: string;
}

/**
 * Writes a configuration with users, passwords and permissions, as an operator has it
 * (docs/security.md): the file of `presencectl nats-config` with its block `websocket` switched on,
 * for pages of some origins, with TLS if there is a certificate. `edit` may change the
 * text, such as its ping_interval. It is gone when the owner ends.
 */
export async function writeUsersConfig(
  owner: Owner,
  options: { users: string[]; origins: string[]; certificate?: Certificate; edit?: (text: string) => string },
): Promise<UsersConfig> {
  const dir = await mkdtemp(join(tmpdir(), "presence-users-"));
  owner.after(() => rm(dir, { recursive: true, force: true }));
  const site = join(dir, "site");
  const [clients, webSocket] = await freePorts();
  await presencectl("nats-config", site, "--listen", `127.0.0.1:${clients}`, "--users", options.users.join(","));

  const file = join(site, "nats.conf");
  const text = await readFile(file, "utf8");
  const off = /^#websocket \{\n(?:#.*\n)*?#\}$/m.exec(text)?.[0];
  if (!off) {
    throw new Error("the configuration has no block websocket that is switched off");
  }
  const { certificate } = options;
  const on = off
    .replace(/^#/gm, "")
    .replace(/0\.0\.0\.0:8443/, `127.0.0.1:${webSocket}`)
    .replace(/tls \{.*\}/, certificate ? `tls { cert_file: "${certificate.certFile}", key_file: "${certificate.keyFile}" }` : "no_tls: true")
    .replace(/allowed_origins: \[.*\]/, `allowed_origins: ${JSON.stringify(options.origins)}`);
  const { edit = (whole: string): string => whole } = options;
  await writeFile(file, edit(text.replace(off, on)));

  const passwords = await readFile(join(site, "passwords"), "utf8");
  const logins = new Map<string, Login>();
  for (const [, user = "", pass = ""] of passwords.matchAll(/^(\S+) (\S+)$/gm)) {
    logins.set(user, { user, pass, inboxPrefix: `_INBOX.${roles[user] ?? "user"}.${user}` });
  }
  return { file, logins, webSocket: `127.0.0.1:${webSocket}` };
}

/** Two ports of loopback that are free at the moment, so that a restart keeps them. */
async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()];
  const ports = await Promise.all(
    servers.map((server) => new Promise<number>((resolve) => server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port)))),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return [ports[0] ?? 0, ports[1] ?? 0];
}
