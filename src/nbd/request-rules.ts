/**
 * Which requests are refused, and with what: every rejection of the protocol in one function. Behind it, nobody
 * checks a flag or a range again. Pure.
 */

import type { Agreement } from './handshake.ts';
import * as nbd from './protocol.ts';

/** The flags each command may carry, by its number. FUA is allowed on all of them, and means nothing on most. */
const FLAGS_ALLOWED: readonly number[] = [
  nbd.NBD_CMD_FLAG_FUA | nbd.NBD_CMD_FLAG_DF,
  nbd.NBD_CMD_FLAG_FUA,
  nbd.NBD_CMD_FLAG_FUA,
  nbd.NBD_CMD_FLAG_FUA,
  nbd.NBD_CMD_FLAG_FUA,
  nbd.NBD_CMD_FLAG_FUA,
  nbd.NBD_CMD_FLAG_FUA | nbd.NBD_CMD_FLAG_NO_HOLE | nbd.NBD_CMD_FLAG_FAST_ZERO,
  nbd.NBD_CMD_FLAG_FUA | nbd.NBD_CMD_FLAG_REQ_ONE,
];

/** The fields of a request that a verdict depends on. */
export interface RequestFields {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly lengthBytes: number;
}

/** The NBD error that a request is refused with, or NBD_SUCCESS if it may go on. */
export function verdict(request: RequestFields, agreement: Agreement): number {
  const { type, flags, offset, lengthBytes } = request;
  if (!mayCarry(type, flags, agreement)) return nbd.NBD_EINVAL;
  // Written so that no sum can be rounded: an offset of 2^53 or more is inexact, and larger than any disk.
  const { sizeBytes } = agreement.device;
  const isOutside = lengthBytes > sizeBytes || offset > sizeBytes - lengthBytes;

  switch (type) {
    case nbd.NBD_CMD_READ:
      // EOVERFLOW is only known to clients that speak structured replies.
      if (lengthBytes > agreement.payloadBytesMax)
        return agreement.style === nbd.SIMPLE ? nbd.NBD_EINVAL : nbd.NBD_EOVERFLOW;
      return isOutside ? nbd.NBD_EINVAL : nbd.NBD_SUCCESS;
    case nbd.NBD_CMD_WRITE:
      if (agreement.readOnly) return nbd.NBD_EPERM;
      if (lengthBytes > agreement.payloadBytesMax) return nbd.NBD_EINVAL;
      return isOutside ? nbd.NBD_ENOSPC : nbd.NBD_SUCCESS;
    case nbd.NBD_CMD_TRIM:
      if (agreement.readOnly) return nbd.NBD_EPERM;
      return isOutside ? nbd.NBD_EINVAL : nbd.NBD_SUCCESS;
    case nbd.NBD_CMD_WRITE_ZEROES:
      if (agreement.readOnly) return nbd.NBD_EPERM;
      if (isOutside) return nbd.NBD_ENOSPC;
      return (flags & nbd.NBD_CMD_FLAG_FAST_ZERO) === 0 || isFastZero(offset, lengthBytes, sizeBytes)
        ? nbd.NBD_SUCCESS
        : nbd.NBD_ENOTSUP;
    case nbd.NBD_CMD_FLUSH:
      return offset === 0 && lengthBytes === 0 ? nbd.NBD_SUCCESS : nbd.NBD_EINVAL;
    case nbd.NBD_CMD_BLOCK_STATUS:
      // An empty range has no extent, and a reply must have one. With a payload, the length is in there.
      if (agreement.contexts.count === 0 || lengthBytes === 0) return nbd.NBD_EINVAL;
      return isOutside ? nbd.NBD_EINVAL : nbd.NBD_SUCCESS;
    case nbd.NBD_CMD_CACHE:
      return isOutside ? nbd.NBD_EINVAL : nbd.NBD_SUCCESS;
    default:
      return nbd.NBD_SUCCESS;
  }
}

/** True if the flags belong to the command, under what was agreed on. */
function mayCarry(type: number, flags: number, { style, contexts }: Agreement): boolean {
  let allowed = FLAGS_ALLOWED[type];
  if (allowed === undefined) return false;
  if (style === nbd.SIMPLE) allowed &= ~nbd.NBD_CMD_FLAG_DF;
  if (style === nbd.EXTENDED) {
    const hasPayload = (flags & nbd.NBD_CMD_FLAG_PAYLOAD_LEN) !== 0;
    if (type === nbd.NBD_CMD_WRITE && !hasPayload) return false;
    if (type === nbd.NBD_CMD_WRITE || (type === nbd.NBD_CMD_BLOCK_STATUS && contexts.count > 0))
      allowed |= nbd.NBD_CMD_FLAG_PAYLOAD_LEN;
  }
  return (flags & ~allowed) === 0;
}

/** Whole blocks are zeroed by one entry of the log. Where there is none in the range, zeros are written like data. */
function isFastZero(offset: number, lengthBytes: number, sizeBytes: number): boolean {
  const end = offset + lengthBytes;
  const block = nbd.BLOCK_BYTES_PREFERRED;
  // Behind the end of the disk there is nothing: its last block is zeroed whole.
  const endWhole = end === sizeBytes ? Math.ceil(end / block) : Math.floor(end / block);
  return lengthBytes === 0 || Math.ceil(offset / block) < endWhole;
}
