/** Connections to other stores: a Unix socket, or TCP with TLS; without it only where nobody can listen in, or it was said. */

import net from 'node:net';
import type { Duplex } from 'node:stream';
import { addressOf, isOfThisMachine } from '../base/address.ts';
import type { Clock } from '../base/clock.ts';
import { openSocketPath } from '../base/socket-path.ts';
import { StoreError } from '../base/errors.ts';
import { type ClientCredentials, connectTls } from '../tls/client.ts';
import { handshakeProblem } from './tls-problems.ts';

const CONNECT_MS_MAX = 15_000;
const KEEP_ALIVE_MS = 30_000;

export interface DialTerms {
  /** Undefined where there is no TLS. */
  readonly credentials: ClientCredentials | undefined;
  /** Whether TCP to other machines goes without TLS. */
  readonly isInsecure: boolean;
}

/** @throws INVALID_ARGUMENT (no TLS where there has to be), NOT_FOUND, IO */
export async function dial(
  address: string,
  { credentials, isInsecure }: DialTerms,
  clock: Clock,
  signal: AbortSignal,
): Promise<Duplex> {
  const where = addressOf(address);
  if (where === undefined) throw new StoreError('INVALID_ARGUMENT', `${address} is no address`);
  if ('socketPath' in where) {
    const path = openSocketPath(where.socketPath);
    const socket = net.connect(path.path);
    return await connected(socket, 'connect', address, clock, signal).finally(() => path.close());
  }
  if (credentials !== undefined) {
    const socket = connectTls(where, credentials);
    const problem = (error: Error): string | undefined => handshakeProblem(socket, error, credentials.kind);
    return await connected(socket, 'secureConnect', address, clock, signal, problem);
  }
  if (!isInsecure && !isOfThisMachine(where))
    throw new StoreError(
      'INVALID_ARGUMENT',
      `${address} is on another machine, and there is no TLS: serve with --replication-tls-psk or --replication-tls-certificates, or accept what that means with --replication-insecure`,
    );
  return await connected(net.connect(where), 'connect', address, clock, signal);
}

async function connected(
  socket: net.Socket,
  event: 'connect' | 'secureConnect',
  address: string,
  clock: Clock,
  signal: AbortSignal,
  /** What an error means where it is not about the way there. */
  problem: (error: Error) => string | undefined = () => undefined,
): Promise<Duplex> {
  let giveUp = (): void => undefined;
  let cancelTimer = giveUp;
  try {
    await new Promise<void>((resolve, reject) => {
      giveUp = () => reject(new StoreError('CLOSED', 'replication was stopped'));
      if (signal.aborted) return giveUp();
      signal.addEventListener('abort', giveUp);
      socket.once(event, resolve);
      socket.once('error', reject);
      socket.once('close', () => reject(Object.assign(new Error('it hung up'), { code: 'ECONNRESET' })));
      cancelTimer = clock.after(CONNECT_MS_MAX, () => reject(new Error('it does not answer')));
    });
  } catch (error) {
    const why = error instanceof StoreError ? undefined : problem(error as Error);
    socket.on('error', () => undefined);
    socket.destroy();
    if (error instanceof StoreError) throw error;
    const failure = error as Error;
    throw new StoreError(
      'IO',
      `${address}${why === undefined ? ` cannot be reached: ${failure.message}` : `: ${why}`}`,
      error,
    );
  } finally {
    signal.removeEventListener('abort', giveUp);
    cancelTimer();
  }
  socket.setNoDelay(true);
  socket.setKeepAlive(true, KEEP_ALIVE_MS);
  return socket;
}
