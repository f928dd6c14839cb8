import type { Core } from "./core.js";
import { readGetReply } from "./protocol/decode.js";
import { isPresenceError, PresenceError } from "./protocol/errors.js";
import { MAX_USERS_PER_GET } from "./protocol/limits.js";
import type { GetReply, GetRequest } from "./protocol/messages.js";
import { BUSY_MOST_MS, BUSY_MS } from "./requests.js";
import { Scope } from "./scope.js";
import { backoff } from "./timing.js";

/** How long an answer may wait for a revision before that may never come. */
const OVERDUE_MS = 1_000;
/** How many pages are asked for at once. */
const LANES = 4;

/** How statuses are asked for. */
export interface Query {
  fresh?: boolean | undefined;
  detail?: boolean | undefined;
  /** Refuses stale answers. */
  current?: boolean;
  /** Bounds each page, in ms; otherwise only the scope does. */
  patience?: number;
}

/** The journal was replaced while pages were fetched: they do not go together. */
class EpochChanged extends PresenceError {
  constructor() {
    super("unavailable", "the journal was replaced meanwhile");
  }
}

/** Asks for statuses, in pages that are all of one epoch. */
export class Queries {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  /** Asks for users, whose IDs must be valid and not repeated. */
  async fetch(ids: readonly string[], query: Query, scope: Scope): Promise<GetReply[]> {
    for (let attempts = 2; ; attempts--) {
      try {
        return await this.#fetch(ids, query, scope);
      } catch (error) {
        if (!(error instanceof EpochChanged) || !attempts) throw error;
      }
    }
  }

  /**
   * Only the first page is fresh, which costs a journal entry. The others wait for its revision,
   * so they too include all that was acknowledged before.
   */
  async #fetch(ids: readonly string[], query: Query, scope: Scope): Promise<GetReply[]> {
    const { journal } = this.#core;
    const chunks: string[][] = [];
    for (let i = 0; i < ids.length; i += MAX_USERS_PER_GET) chunks.push(ids.slice(i, i + MAX_USERS_PER_GET));
    const pages: GetReply[][] = chunks.map(() => []);
    const back = journal.back;
    const page = async (i: number, rest: Partial<GetRequest>, within: Scope) => {
      const request = { ...rest, userIDList: chunks[i]!, detail: query.detail || undefined };
      pages[i] = await this.#page(request, query, back, within);
    };
    if (chunks.length === 0) return [];
    const { epoch, written } = journal;
    await page(0, query.fresh ? { fresh: true } : { epoch, minRevision: written }, scope);
    const first = pages[0]![0]!;
    const rest = query.fresh
      ? { epoch: first.epoch, minRevision: first.revision }
      : { epoch, minRevision: written };
    const lanes = new Scope(scope);
    let next = 1;
    const lane = async () => {
      while (next < chunks.length) await page(next++, rest, lanes);
    };
    try {
      await Promise.all(Array.from({ length: LANES }, lane));
    } finally {
      lanes.end(new PresenceError("aborted", "another page has failed"));
    }
    const all = pages.flat();
    if (all.some((reply) => reply.epoch !== first.epoch)) throw new EpochChanged();
    return all;
  }

  /** Asks for one page. If the reply would be too large it asks in two halves. */
  async #page(request: GetRequest, query: Query, back: Scope, scope: Scope): Promise<GetReply[]> {
    const ids = request.userIDList;
    try {
      return [await this.#whole(request, query, back, scope)];
    } catch (error) {
      if (ids.length === 1 || !isPresenceError(error, "request_too_large")) throw error;
    }
    const half = ids.length >> 1;
    const replies: GetReply[] = [];
    for (const userIDList of [ids.slice(0, half), ids.slice(half)]) {
      replies.push(...(await this.#page({ ...request, userIDList }, query, back, scope)));
    }
    return replies;
  }

  async #whole(request: GetRequest, query: Query, back: Scope, outer: Scope): Promise<GetReply> {
    const scope = new Scope(outer, request.minRevision ? back : undefined);
    if (query.patience) scope.within(query.patience, () => new PresenceError("timeout", "no answer in time"));
    // A revision that does not come may never come, because the journal went back.
    const doubt = () => this.#core.watching.resync.doubtJournal();
    const overdue = request.minRevision ? setTimeout(doubt, OVERDUE_MS) : undefined;
    try {
      return await this.#current(request, query, scope);
    } catch (error) {
      if (request.minRevision && back.ended && !outer.ended) throw new EpochChanged();
      throw error;
    } finally {
      clearTimeout(overdue);
      scope.end(undefined);
    }
  }

  /** Asks until an answer is as new as it must be. */
  async #current(body: GetRequest, query: Query, scope: Scope): Promise<GetReply> {
    const { journal, watching, requests, subjects } = this.#core;
    for (let attempt = 0; ; attempt++) {
      const { epoch, seen } = journal;
      const ask = { subject: subjects.get, body, read: readGetReply, repeatable: true };
      const reply = await requests.call(ask, scope);
      const n = reply.successUserList.length + reply.failureUserList.length;
      if (n !== body.userIDList.length) {
        const asked = body.userIDList.length;
        throw new PresenceError("internal", `${asked} users were asked for, ${n} answered`);
      }
      let failure: PresenceError;
      if (reply.stale) {
        if (!query.current) return reply;
        failure = new PresenceError("unavailable", "the instance that answered is cut off from the journal");
      } else if (reply.epoch === body.epoch && reply.revision < (body.minRevision ?? 0)) {
        const said = `the answer is of revision ${reply.revision}, asked for was ${body.minRevision}`;
        failure = new PresenceError("unavailable", said);
      } else if (body.fresh && reply.epoch === epoch && reply.revision < seen) {
        watching.wentBack(epoch, seen);
        throw new EpochChanged();
      } else {
        if (journal.note(reply.epoch, reply.revision) && !body.fresh) watching.resync.doubtJournal();
        return reply;
      }
      // Another instance may have read more of the journal.
      try {
        await scope.sleep(backoff(attempt, BUSY_MS, BUSY_MOST_MS));
      } catch (reason) {
        throw isPresenceError(reason, "timeout") ? failure : reason;
      }
    }
  }
}
