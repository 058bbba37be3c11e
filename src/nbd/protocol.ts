/**
 * The NBD wire: every constant under the name it has in the specification (doc/proto.md of NetworkBlockDevice/nbd, and its
 * branch extension-ext-header), the byte layouts, and what errors become there. All numbers are big-endian. No I/O.
 *
 * Layouts, as bytes:
 *
 *     greeting          8 NBDMAGIC | 8 IHAVEOPT | 2 handshake flags              answered by: 4 client flags
 *     option            8 IHAVEOPT | 4 option | 4 length | data
 *     option reply      8 NBD_REP_MAGIC | 4 option | 4 reply type | 4 length | data
 *     request           4 magic | 2 flags | 2 type | 8 cookie | 8 offset | 4 length | payload of a WRITE
 *     simple reply      4 magic | 4 error | 8 cookie | data of a READ
 *     structured reply  4 magic | 2 flags | 2 type | 8 cookie | 4 length | payload
 *
 * and once extended headers were agreed on, in the place of the last three:
 *
 *     request           4 magic | 2 flags | 2 type | 8 cookie | 8 offset | 8 length | payload, if the flags say so
 *     reply             4 magic | 2 flags | 2 type | 8 cookie | 8 offset of the request | 8 length | payload
 *
 * A 64-bit number is two 32-bit words here, never a BigInt: a cookie is only echoed, and an offset of 2^53 or more
 * lies outside every disk.
 */

import type { ErrorCode } from '../base/errors.ts';

// Magic numbers, in 32-bit words.
export const NBDMAGIC = [0x4e42444d, 0x41474943] as const;
export const IHAVEOPT = [0x49484156, 0x454f5054] as const;
export const NBD_REP_MAGIC = [0x0003e889, 0x045565a9] as const;
export const NBD_REQUEST_MAGIC = 0x25609513;
export const NBD_SIMPLE_REPLY_MAGIC = 0x67446698;
export const NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef;
export const NBD_EXTENDED_REQUEST_MAGIC = 0x21e41c71;
export const NBD_EXTENDED_REPLY_MAGIC = 0x6e8a278c;

export const GREETING_BYTES = 18;
export const CLIENT_FLAGS_BYTES = 4;
export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_HEADER_BYTES = 20;
export const REQUEST_BYTES = 28;
export const SIMPLE_REPLY_BYTES = 16;
export const STRUCTURED_REPLY_BYTES = 20;
export const EXTENDED_REQUEST_BYTES = 32;
export const EXTENDED_REPLY_BYTES = 32;
/** The answer to NBD_OPT_EXPORT_NAME is followed by this many zeros, unless the client asked for none. */
export const EXPORT_NAME_ZEROES_BYTES = 124;

/** The specification's limit for every string. */
export const NAME_BYTES_MAX = 4096;

// Size constraints, which NBD_INFO_BLOCK_SIZE announces.
export const BLOCK_BYTES_MIN = 1;
export const BLOCK_BYTES_PREFERRED = 4096;
/** Unless a server is told otherwise. */
export const PAYLOAD_BYTES_MAX = 32 * 2 ** 20;

export const NBD_FLAG_FIXED_NEWSTYLE = 1 << 0;
export const NBD_FLAG_NO_ZEROES = 1 << 1;
export const NBD_FLAG_C_FIXED_NEWSTYLE = 1 << 0;
export const NBD_FLAG_C_NO_ZEROES = 1 << 1;

// Transmission flags.
export const NBD_FLAG_HAS_FLAGS = 1 << 0;
export const NBD_FLAG_READ_ONLY = 1 << 1;
export const NBD_FLAG_SEND_FLUSH = 1 << 2;
export const NBD_FLAG_SEND_FUA = 1 << 3;
export const NBD_FLAG_SEND_TRIM = 1 << 5;
export const NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6;
export const NBD_FLAG_SEND_DF = 1 << 7;
export const NBD_FLAG_CAN_MULTI_CONN = 1 << 8;
export const NBD_FLAG_SEND_CACHE = 1 << 10;
export const NBD_FLAG_SEND_FAST_ZERO = 1 << 11;
export const NBD_FLAG_BLOCK_STATUS_PAYLOAD = 1 << 12;

export const NBD_OPT_EXPORT_NAME = 1;
export const NBD_OPT_ABORT = 2;
export const NBD_OPT_LIST = 3;
export const NBD_OPT_STARTTLS = 5;
export const NBD_OPT_INFO = 6;
export const NBD_OPT_GO = 7;
export const NBD_OPT_STRUCTURED_REPLY = 8;
export const NBD_OPT_LIST_META_CONTEXT = 9;
export const NBD_OPT_SET_META_CONTEXT = 10;
export const NBD_OPT_EXTENDED_HEADERS = 11;

export const NBD_REP_ACK = 1;
export const NBD_REP_SERVER = 2;
export const NBD_REP_INFO = 3;
export const NBD_REP_META_CONTEXT = 4;
export const NBD_REP_ERR_UNSUP = 2 ** 31 + 1;
export const NBD_REP_ERR_POLICY = 2 ** 31 + 2;
export const NBD_REP_ERR_INVALID = 2 ** 31 + 3;
export const NBD_REP_ERR_PLATFORM = 2 ** 31 + 4;
export const NBD_REP_ERR_TLS_REQD = 2 ** 31 + 5;
export const NBD_REP_ERR_UNKNOWN = 2 ** 31 + 6;
export const NBD_REP_ERR_SHUTDOWN = 2 ** 31 + 7;
export const NBD_REP_ERR_TOO_BIG = 2 ** 31 + 9;
export const NBD_REP_ERR_EXT_HEADER_REQD = 2 ** 31 + 10;

export const NBD_INFO_EXPORT = 0;
export const NBD_INFO_NAME = 1;
export const NBD_INFO_DESCRIPTION = 2;
export const NBD_INFO_BLOCK_SIZE = 3;

export const NBD_CMD_READ = 0;
export const NBD_CMD_WRITE = 1;
export const NBD_CMD_DISC = 2;
export const NBD_CMD_FLUSH = 3;
export const NBD_CMD_TRIM = 4;
export const NBD_CMD_CACHE = 5;
export const NBD_CMD_WRITE_ZEROES = 6;
export const NBD_CMD_BLOCK_STATUS = 7;

/** Names of the commands, by number, for the log. */
export const COMMAND_NAMES: readonly string[] = [
  'read',
  'write',
  'disconnect',
  'flush',
  'trim',
  'cache',
  'write zeroes',
  'block status',
];

export const NBD_CMD_FLAG_FUA = 1 << 0;
export const NBD_CMD_FLAG_NO_HOLE = 1 << 1;
export const NBD_CMD_FLAG_DF = 1 << 2;
export const NBD_CMD_FLAG_REQ_ONE = 1 << 3;
export const NBD_CMD_FLAG_FAST_ZERO = 1 << 4;
export const NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5;

export const NBD_REPLY_FLAG_DONE = 1 << 0;
export const NBD_REPLY_TYPE_NONE = 0;
export const NBD_REPLY_TYPE_OFFSET_DATA = 1;
export const NBD_REPLY_TYPE_OFFSET_HOLE = 2;
export const NBD_REPLY_TYPE_BLOCK_STATUS = 5;
export const NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6;
export const NBD_REPLY_TYPE_ERROR = 2 ** 15 + 1;
export const NBD_REPLY_TYPE_ERROR_OFFSET = 2 ** 15 + 2;

export const NBD_STATE_HOLE = 1 << 0;
export const NBD_STATE_ZERO = 1 << 1;

/** Of qemu:dirty-bitmap contexts, and of coppice:changed-since. */
export const NBD_STATE_DIRTY = 1 << 0;

export const NBD_SUCCESS = 0;
export const NBD_EPERM = 1;
export const NBD_EIO = 5;
export const NBD_EINVAL = 22;
export const NBD_ENOSPC = 28;
export const NBD_EOVERFLOW = 75;
export const NBD_ENOTSUP = 95;
export const NBD_ESHUTDOWN = 108;

/** What a request fails with on the wire. What has no better name there is an EIO: to a disk, EINVAL would be a lie. */
export const NBD_ERROR: Readonly<Record<ErrorCode, number>> = {
  NOT_FOUND: NBD_EIO,
  ALREADY_EXISTS: NBD_EIO,
  INVALID_ARGUMENT: NBD_EINVAL,
  READ_ONLY: NBD_EPERM,
  IN_USE: NBD_EIO,
  HAS_SNAPSHOTS: NBD_EIO,
  HELD: NBD_EIO,
  WOULD_LOSE_DATA: NBD_EIO,
  WRONG_BASE: NBD_EIO,
  LOCKED: NBD_EIO,
  NOT_A_STORE: NBD_EIO,
  UNSUPPORTED_FORMAT: NBD_EIO,
  NO_SPACE: NBD_ENOSPC,
  IO: NBD_EIO,
  CORRUPTION: NBD_EIO,
  INDEX_DAMAGED: NBD_EIO,
  POISONED: NBD_EIO,
  CLOSED: NBD_ESHUTDOWN,
};

/** How replies look: what the client has asked for in the handshake, the last of these that it did. */
export const SIMPLE = 0;
export const STRUCTURED = 1;
export const EXTENDED = 2;
export type ReplyStyle = typeof SIMPLE | typeof STRUCTURED | typeof EXTENDED;

const FLAGS_ALWAYS =
  NBD_FLAG_HAS_FLAGS |
  NBD_FLAG_SEND_FLUSH |
  NBD_FLAG_SEND_FUA |
  NBD_FLAG_CAN_MULTI_CONN |
  NBD_FLAG_SEND_CACHE;
const FLAGS_OF_WRITERS = NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;

/** The flags that tell a client what this export can do. A read-only one offers nothing that writes. */
export function transmissionFlags(readOnly: boolean, style: ReplyStyle, hasContexts: boolean): number {
  let flags = FLAGS_ALWAYS | (readOnly ? NBD_FLAG_READ_ONLY : FLAGS_OF_WRITERS);
  if (style !== SIMPLE) flags |= NBD_FLAG_SEND_DF;
  if (style === EXTENDED && hasContexts) flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
  return flags;
}
