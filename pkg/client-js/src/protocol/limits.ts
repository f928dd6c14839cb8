// Limits of the contract. What is "configurable" is a default: a service may have another.

/** The most bytes of UTF-8 in a user ID (PROTOCOL 1). */
export const MAX_USER_ID_BYTES = 128;
/** The most bytes in the ID of a session, a gateway or a process (PROTOCOL 1). */
export const MAX_SESSION_ID_BYTES = 64;
/** The most bytes of UTF-8 in the name of a device (PROTOCOL 4.1). */
export const MAX_DEVICE_BYTES = 128;
/** The most bytes in the name of a platform (PROTOCOL 4.1). */
export const MAX_PLATFORM_BYTES = 32;
/** The most bytes of UTF-8 in a custom status; configurable (PROTOCOL 2). */
export const MAX_CUSTOM_STATUS_BYTES = 512;
/** The highest limit of the custom status that a service can be configured to have. */
export const MOST_CUSTOM_STATUS_BYTES = 4096;
/** The most users in one `get` request (PROTOCOL 4.5). */
export const MAX_USERS_PER_GET = 500;
/** The most contacts of a user (PROTOCOL 4.6). */
export const MAX_CONTACTS = 2000;
/** The most ops in one `apply` request (PROTOCOL 4.7). */
export const MAX_OPS_PER_APPLY = 1000;
/** The most bytes in the body of a request or a reply (PROTOCOL 1). */
export const MAX_BODY_BYTES = 512 * 1024;

/** The longest expiry of a text or an availability, in seconds: 366 days (PROTOCOL 4.4). */
export const MAX_EXPIRY_SECONDS = 366 * 86_400;
/** The time to live of a session or a gateway, in seconds, at least and at most (PROTOCOL 4.1). */
export const MIN_TTL_SECONDS = 5;
export const MAX_TTL_SECONDS = 3600;
/** The grace of a session or a gateway, in seconds, at least and at most (PROTOCOL 4.1). */
export const MIN_GRACE_SECONDS = 1;
export const MAX_GRACE_SECONDS = 300;
/**
 * The longest time in milliseconds from the arrival of a change to its answer. A fresh read that
 * is sent so long after the change settles whether it was done (PROTOCOL 6).
 */
export const OUTCOME_WITHIN_MS = 10_000;
