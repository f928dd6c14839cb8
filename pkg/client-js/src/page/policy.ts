/**
 * What the page's content security policy refuses. A browser reports it apart from the failure of
 * the WebSocket, which says nothing.
 */
export class Policy {
  readonly #document: Document;
  readonly #refused = new Set<string>();

  constructor(document: Document) {
    this.#document = document;
    document.addEventListener("securitypolicyviolation", this.#note);
  }

  stop(): void {
    this.#document.removeEventListener("securitypolicyviolation", this.#note);
  }

  /** Reports whether the policy refuses connections to a URL. */
  refuses(url: string): boolean {
    return this.#refused.has(originOf(url));
  }

  readonly #note = (event: SecurityPolicyViolationEvent): void => {
    const enforced = event.disposition === "enforce";
    if (enforced && event.effectiveDirective === "connect-src" && this.#refused.size < 100) {
      this.#refused.add(originOf(event.blockedURI));
    }
  };
}

function originOf(url: string): string {
  try {
    const { protocol, host } = new URL(url);
    return `${protocol}//${host}`;
  } catch {
    return url;
  }
}
