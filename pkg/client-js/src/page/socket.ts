/** How long a closed socket may take to say so, in milliseconds. */
const CLOSE_MS = 500;

/** What nats-core's `wsFactory` option gives. */
export interface OpenedSocket {
  socket: WebSocket;
  encrypted: boolean;
}

/**
 * The WebSockets of a page. They differ from the browser's own in two ways, because nats-core
 * waits for both before it goes on:
 *
 * - `close()` reports within 500 ms. On a dead network Chromium takes 60 s.
 * - `bufferedAmount` is 0. On a dead network it stays above 0 for ever. A WebSocket sends what is
 *   buffered before it closes, so nothing is lost by not waiting.
 */
export class Sockets {
  readonly #open = new Set<WebSocket>();
  readonly #heard: () => void;

  /** `heard` is called whenever the browser tells something of a socket. */
  constructor(heard: () => void) {
    this.#heard = heard;
  }

  /** Opens a socket. It throws where the browser refuses the URL, as for `ws:` in `https:` pages. */
  open(url: string): OpenedSocket {
    const socket = new WebSocket(url);
    this.#open.add(socket);
    let reported = false;
    for (const type of ["open", "message", "error"]) socket.addEventListener(type, this.#heard);
    // This listener is before nats-core's, so the browser's late report does not reach that.
    socket.addEventListener("close", (event) => {
      if (reported) event.stopImmediatePropagation();
      else this.#heard();
      reported = true;
      this.#open.delete(socket);
    });
    const close = (code?: number, reason?: string): void => {
      WebSocket.prototype.close.call(socket, code, reason);
      setTimeout(() => {
        if (!reported) socket.dispatchEvent(new CloseEvent("close", { code: 1006 }));
      }, CLOSE_MS);
    };
    Object.defineProperties(socket, { close: { value: close }, bufferedAmount: { value: 0 } });
    return { socket, encrypted: /^wss:/i.test(url) };
  }

  /** Closes all sockets, without waiting. */
  closeAll(): void {
    for (const socket of this.#open) socket.close();
  }
}
