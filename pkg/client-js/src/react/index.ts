"use client";

/**
 * React hooks for statuses: `presence-client/react`. A component that calls `useStatus` is
 * rendered again when that user's status changes, and at no other time.
 *
 * Users are watched while components show them, counted over all components, and 5 s longer.
 * So StrictMode, and rows that are scrolled out and in again, cause no traffic.
 */
export { PresenceProvider, useConnection, useMyStatus, useStatus, useStatuses } from "./hooks.js";
export type { PresenceProviderProps } from "./hooks.js";
