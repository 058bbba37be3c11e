/**
 * CRC-32C (Castagnoli, reflected, as in RFC 3720), from `@node-rs/crc32`; `crc32c("123456789")` is e3069283.
 * Pure.
 */

import native from '@node-rs/crc32';

/** Checksum of `bytes`, continued from `seed`: crc32c(b, crc32c(a)) equals the checksum of a followed by b. */
export const crc32c: (bytes: Uint8Array, seed?: number) => number = native.crc32c;
