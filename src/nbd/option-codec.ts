/**
 * Bodies of the options that name an export. No I/O.
 *
 *     INFO, GO                    4 length of name | name | 2 count | 2 x count information types
 *     LIST, SET_META_CONTEXT      4 length of name | name | 4 count | (4 length | query) x count
 *
 * Every length is checked against the bytes that are there, and the body must end where its last field does.
 * A length that lies throws CORRUPTION (from the cursor), anything else that is wrong INVALID_ARGUMENT.
 */

import type { ByteReader } from '../base/bytes.ts';
import { StoreError } from '../base/errors.ts';
import { NAME_BYTES_MAX } from './protocol.ts';

/** The body of NBD_OPT_INFO and NBD_OPT_GO. */
export interface InfoQuery {
  readonly name: string;
  wants(informationType: number): boolean;
}

/** The body of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
export interface ExportQuery {
  readonly name: string;
  readonly contexts: readonly string[];
}

// A byte order mark is kept: it would otherwise make two spellings of one name.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Bytes from a client as a string. @throws INVALID_ARGUMENT unless it is at most 4,096 bytes of UTF-8 without NUL */
export function decodeName(bytes: Uint8Array): string {
  if (bytes.length > NAME_BYTES_MAX) throw new StoreError('INVALID_ARGUMENT', 'a string exceeds 4096 bytes');
  if (bytes.includes(0)) throw new StoreError('INVALID_ARGUMENT', 'a string contains NUL');
  try {
    return utf8.decode(bytes);
  } catch (error) {
    throw new StoreError('INVALID_ARGUMENT', 'a string is not UTF-8', error);
  }
}

export function decodeInfoQuery(body: ByteReader): InfoQuery {
  const name = decodeName(body.bytes(body.u32()));
  const count = body.u16();
  const types = new Set<number>();
  for (let index = 0; index < count; index++) types.add(body.u16());
  requireEnd(body);
  return { name, wants: (informationType) => types.has(informationType) };
}

export function decodeExportQuery(body: ByteReader): ExportQuery {
  const name = decodeName(body.bytes(body.u32()));
  const count = body.u32();
  const contexts: string[] = [];
  // A count that lies runs into the end of the body after a few rounds: each takes four bytes at least.
  for (let index = 0; index < count; index++) contexts.push(decodeName(body.bytes(body.u32())));
  requireEnd(body);
  return { name, contexts };
}

function requireEnd(body: ByteReader): void {
  if (body.remaining > 0)
    throw new StoreError('INVALID_ARGUMENT', 'the option has bytes behind its last field');
}
