import type { Status } from "../index.js";

/** The status of a user of whom nobody can tell what holds (PROTOCOL 3). */
export function unknownStatus(userID: string): Status {
  return Object.freeze({ userID, statusType: 0, customStatus: "", revision: 0 });
}

/** Reports whether two statuses of one user say the same. */
export function sameStatus(a: Status, b: Status): boolean {
  return (
    a === b ||
    (a.revision === b.revision &&
      a.statusType === b.statusType &&
      a.customStatus === b.customStatus &&
      a.customStatusExpiresAt === b.customStatusExpiresAt &&
      a.availability === b.availability &&
      a.lastSeenAt === b.lastSeenAt &&
      a.updatedAt === b.updatedAt)
  );
}
