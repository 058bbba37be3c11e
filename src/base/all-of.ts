/**
 * Waiting for parts of one request. Pure.
 *
 * Whoever is told that a request has failed goes on: uses its buffer for something else, writes the same place again.
 * So nothing of the request may still be under way then.
 */

/** Resolves when all parts have succeeded; rejects with the first error once all parts have ended. */
export async function allOf(parts: readonly Promise<void>[]): Promise<void> {
  if (parts.length === 1) return await parts[0];
  for (const part of await Promise.allSettled(parts)) if (part.status === 'rejected') throw part.reason;
}
