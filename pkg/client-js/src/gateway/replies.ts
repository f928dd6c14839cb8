import type { ApplyReply, LeaseReply, OpFailure } from "../protocol/messages.js";
import { asOf, count, failureFields, list, object, seconds } from "../protocol/decode.js";

export const readLeaseReply = object<LeaseReply>(
  { seq: count, ...asOf },
  { ttlSeconds: count, graceSeconds: seconds, window: count },
);

export const readApplyReply = object<ApplyReply>(
  { applied: count, failures: list(object<OpFailure>({ index: count, ...failureFields }, {})), ...asOf },
  {},
);
