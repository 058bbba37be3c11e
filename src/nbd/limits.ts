/** What clients may take from a server, and for how long. Each may be set; README.md lists the defaults. */

import { PAYLOAD_BYTES_MAX } from './protocol.ts';

export interface NbdLimits {
  readonly connectionsMax: number;
  /** Connections whose handshake is not over: one more, and the oldest of them goes. */
  readonly handshakesMax: number;
  readonly handshakeMsMax: number;
  /** Connections that one listener accepts in a second while others are served; more wait to be accepted. */
  readonly acceptsPerSecondMax: number;
  /** Options in one handshake: `nbdinfo --list` sends three for each export. */
  readonly optionsMax: number;
  /** The longest write or read: told to clients, as the specification wants it at least 1 MiB. */
  readonly requestBytesMax: number;
  /** Bytes of requests in memory, for one connection: at least one request. */
  readonly connectionBytesMax: number;
  readonly serverBytesMax: number;
  /** While others wait for memory, a client that holds some must move on within this time. */
  readonly stallMsMax: number;
  /** A TCP peer that has been silent for this long is asked whether it is still there, then a few times more. */
  readonly keepAliveMs: number;
}

export const DEFAULT_LIMITS: NbdLimits = {
  connectionsMax: 1024,
  handshakesMax: 128,
  handshakeMsMax: 10_000,
  acceptsPerSecondMax: 250,
  optionsMax: 4096,
  requestBytesMax: PAYLOAD_BYTES_MAX,
  connectionBytesMax: 64 * 2 ** 20,
  serverBytesMax: 512 * 2 ** 20,
  stallMsMax: 10_000,
  keepAliveMs: 30_000,
};
