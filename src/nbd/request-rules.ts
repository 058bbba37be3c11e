/**
 * Which requests are refused, and with what: every rejection of the protocol in one function. Behind it, nobody
 * checks a flag or a range again. Pure.
 */

import type { Agreement } from './handshake.ts';
import * as nbd from './protocol.ts';

/** The flags each command may carry, by its number. FUA is allowed on all of them, and means nothing on most. */
const FLAGS_ALLOWED: readonly number[] = [
  nbd.NBD_CMD_FLAG_FUA, // READ, and DF under structured replies
  nbd.NBD_CMD_FLAG_FUA,
  nbd.NBD_CMD_FLAG_FUA,
  nbd.NBD_CMD_FLAG_FUA,
  nbd.NBD_CMD_FLAG_FUA,
  nbd.NBD_CMD_FLAG_FUA,
  // FAST_ZERO is not offered: a client that sends it all the same gets EINVAL.
  nbd.NBD_CMD_FLAG_FUA | nbd.NBD_CMD_FLAG_NO_HOLE,
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
  const allowed = FLAGS_ALLOWED[type];
  if (allowed === undefined) return nbd.NBD_EINVAL;
  const { structured } = agreement;
  const unexpected = flags & ~allowed;
  if (unexpected !== 0 && !(type === nbd.NBD_CMD_READ && structured && unexpected === nbd.NBD_CMD_FLAG_DF)) {
    return nbd.NBD_EINVAL;
  }
  // Written so that no sum can be rounded: an offset of 2^53 or more is inexact, and larger than any disk.
  const { sizeBytes } = agreement.device;
  const isOutside = lengthBytes > sizeBytes || offset > sizeBytes - lengthBytes;

  switch (type) {
    case nbd.NBD_CMD_READ:
      // EOVERFLOW is only known to clients that speak structured replies.
      if (lengthBytes > nbd.PAYLOAD_BYTES_MAX) return structured ? nbd.NBD_EOVERFLOW : nbd.NBD_EINVAL;
      return isOutside ? nbd.NBD_EINVAL : nbd.NBD_SUCCESS;
    case nbd.NBD_CMD_WRITE:
      if (agreement.readOnly) return nbd.NBD_EPERM;
      if (lengthBytes > nbd.PAYLOAD_BYTES_MAX) return nbd.NBD_EINVAL;
      return isOutside ? nbd.NBD_ENOSPC : nbd.NBD_SUCCESS;
    case nbd.NBD_CMD_TRIM:
      if (agreement.readOnly) return nbd.NBD_EPERM;
      return isOutside ? nbd.NBD_EINVAL : nbd.NBD_SUCCESS;
    case nbd.NBD_CMD_WRITE_ZEROES:
      if (agreement.readOnly) return nbd.NBD_EPERM;
      return isOutside ? nbd.NBD_ENOSPC : nbd.NBD_SUCCESS;
    case nbd.NBD_CMD_FLUSH:
      return offset === 0 && lengthBytes === 0 ? nbd.NBD_SUCCESS : nbd.NBD_EINVAL;
    case nbd.NBD_CMD_BLOCK_STATUS:
      // An empty range has no extent, and a reply must have one.
      if (!agreement.allocationContext || lengthBytes === 0) return nbd.NBD_EINVAL;
      return isOutside ? nbd.NBD_EINVAL : nbd.NBD_SUCCESS;
    case nbd.NBD_CMD_CACHE:
      return isOutside ? nbd.NBD_EINVAL : nbd.NBD_SUCCESS;
    default:
      return nbd.NBD_SUCCESS;
  }
}
