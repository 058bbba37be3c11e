/**
 * What the control server and its client must agree on: addresses, limits and how an error travels. No I/O.
 *
 * The protocol is HTTP/1.1 with JSON on the Unix socket `control.sock` in the store's directory. Names and ranges
 * are in the query (a volume may be called `..`, which a path would not survive); bytes travel raw:
 *
 *     GET  /v1/hello                          → {service, protocol, pid}
 *     GET  /v1/versions                       → [VersionSummary]
 *     GET  /v1/versions/space?ghosts          → [VersionWithSpace]
 *     GET  /v1/version?name                   → VersionSummary
 *     GET  /v1/status                         → StoreStatus
 *     GET  /v1/metrics                        → the same in the text format of Prometheus, as in metrics.ts
 *     GET  /v1/check?quick=                   → lines {"item": Finding}, then {"end": true} or {"error": …}
 *     POST /v1/scrub {bytesPerSecond?}        → lines {"item": ScrubStep}, and an end like that; hanging up ends it
 *     POST /v1/compaction/estimate {target, purge, bytesPerSecond?} → CompactionEstimate
 *     POST /v1/compaction {the same}          → lines {"item": CompactionProgress}, and an end like that
 *     POST /v1/compaction/pause {isPaused}    no round is under way when it is answered
 *     GET  /v1/diff?from&to                   → lines {"item": DiffExtent}, and an end like that
 *     POST /v1/create     {name, size}        → VersionSummary
 *     POST /v1/snapshot   {names}             → [VersionSummary]
 *     POST /v1/clone      {source, volume}    → VersionSummary
 *     POST /v1/delete     {names, force?, recursive?}      → [name]
 *     POST /v1/rollback   {name, force?}                   → {volume: VersionSummary, saved: name or null}
 *     POST /v1/promote    {name}                           → VersionSummary
 *     POST /v1/demote     {name, force?, replicaOf?}       → {volume: VersionSummary, saved: name or null}
 *     POST /v1/rename     {name, to}                       → VersionSummary
 *     POST /v1/resize     {name, size, shrink?, force?}    → VersionSummary
 *     POST /v1/hold       {name, owner, reason?, until?}   → VersionSummary, and it is on the disk
 *     POST /v1/release    {name, owner}                    → VersionSummary
 *     POST /v1/priority   {name, priority}                 → VersionSummary
 *     POST /v1/space      {names}                          → SpaceReport
 *     POST /v1/receive    {head, name}        → ReceiveBegun, for a stream head as in delta/head.ts
 *     PUT  /v1/receive/changes?session        ← the unpacked body of a frame, as in delta/format.ts
 *     POST /v1/receive/advance {session, position}         all up to there is on the disk when it is answered
 *     POST /v1/receive/publish {session}      → name, and it is on the disk
 *     POST /v1/receive/abort   {receive}
 *     GET  /v1/receives                       → [ReceiveSummary]
 *     GET  /v1/schedules                      → [ScheduleSummary]
 *     POST /v1/schedule   {volume, settings}  → ScheduleSummary or null, for ScheduleSettings or null as in schedule/schedule.ts
 *     POST /v1/prune      {volume?, dryRun}   → [PruneDecision]
 *     GET  /v1/feeds                          → [FeedSummary]
 *     POST /v1/feed {a FeedRequest}           → FeedSummary
 *     POST /v1/feed/remove {id}
 *     POST /v1/feed/pause  {id, isPaused}     → FeedSummary
 *     POST /v1/feed/run    {id}               → FeedSummary: a run has begun
 *     POST /v1/flush      {}                  what was answered before is on the disk
 *     GET  /v1/disk?name                      → {name, sizeBytes, readOnly}
 *     GET  /v1/disk/bytes?name&offset&length  → the bytes
 *     PUT  /v1/disk/bytes?name&offset         ← the bytes
 *     POST /v1/disk/runs  {name, runs: [[offset, length]]} → the bytes of all of them, in order
 *     POST /v1/disk/zero  {name, offset, length}
 *     GET  /v1/disk/allocation?name&offset&length → [AllocationRun]
 *     POST /v1/disk/flush {name}
 *
 * Invariants: a failure is {code, message} with a status that fits, and becomes the same StoreError at the client;
 * a stream that ends without its last line was cut short.
 */

import { type ErrorCode, StoreError } from '../base/errors.ts';

export const CONTROL_SOCKET_NAME = 'control.sock';
export const CONTROL_SERVICE = 'coppice';
/** Goes up when an older client would misunderstand this server. */
export const CONTROL_PROTOCOL = 2;

export interface Hello {
  service: string;
  protocol: number;
  pid: number;
}

export interface WireError {
  code: ErrorCode;
  message: string;
}

/** A line of an answer that is a stream. */
export type StreamLine<T> = { item: T } | { end: true } | { error: WireError };

/** Every code has its status; a code that is missing here does not compile. */
const STATUS_BY_CODE: Record<ErrorCode, number> = {
  INVALID_ARGUMENT: 400,
  READ_ONLY: 403,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  IN_USE: 409,
  HAS_SNAPSHOTS: 409,
  HELD: 409,
  WOULD_LOSE_DATA: 409,
  WRONG_BASE: 409,
  LOCKED: 423,
  NO_SPACE: 507,
  CLOSED: 503,
  POISONED: 500,
  IO: 500,
  CORRUPTION: 500,
  NOT_A_STORE: 500,
  UNSUPPORTED_FORMAT: 500,
  INDEX_DAMAGED: 500,
};

export function statusOf(code: ErrorCode): number {
  return STATUS_BY_CODE[code];
}

export function encodeError(error: StoreError): WireError {
  return { code: error.code, message: error.message };
}

/** The StoreError in the body of a failed answer; IO if there is none that we know. */
export function decodeError(body: unknown, status: number): StoreError {
  const { code, message } = (body ?? {}) as Partial<WireError>;
  if (code !== undefined && Object.hasOwn(STATUS_BY_CODE, code) && typeof message === 'string') {
    return new StoreError(code, message);
  }
  return new StoreError(
    'IO',
    `the server gave an answer that this command does not understand (HTTP ${status})`,
  );
}
