/**
 * The options of `serve` about other stores, and what a served store does with them: it listens, and does what its feeds ask for.
 *
 * Invariant: what is listened to over TCP is proved by TLS, or is of this machine, or somebody has said that it need not be.
 */

import path from 'node:path';
import type { Logger } from 'pino';
import type { ListenerAddress } from '../base/address.ts';
import { type Clock, systemClock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { dial } from '../replication/dial.ts';
import { ReplicationListener } from '../replication/listener.ts';
import { Replicator } from '../replication/replicator.ts';
import { type ClientCredentials, loadClientCertificates, loadClientKey } from '../tls/client.ts';
import { loadCertificates, loadSharedKeys, type TlsCredentials } from '../tls/credentials.ts';
import type { Store } from '../volume/store.ts';
import { addressOption } from './command-context.ts';

/** As the command line gave them. */
export interface ReplicationOptions {
  readonly readOnly?: boolean;
  readonly tlsCertificates?: string;
  readonly tlsPsk?: string;
  readonly replicationListen?: readonly string[];
  readonly replicationTlsPsk?: string;
  readonly replicationTlsName?: string;
  readonly replicationTlsCertificates?: string;
  readonly replicationInsecure?: boolean;
}

export interface ReplicationTerms {
  readonly addresses: readonly ListenerAddress[];
  /** What this server proves itself with to who connects, and to whom it connects. */
  readonly own: TlsCredentials | undefined;
  readonly client: ClientCredentials | undefined;
  readonly isInsecure: boolean;
}

const NOTHING: ReplicationTerms = { addresses: [], own: undefined, client: undefined, isInsecure: false };

/** Reads the files that the options name. @throws INVALID_ARGUMENT, NOT_FOUND, IO */
export async function loadReplication(
  options: ReplicationOptions,
  logger: Logger,
): Promise<ReplicationTerms> {
  const { replicationListen = [], replicationInsecure: isInsecure = false } = options;
  if (options.readOnly === true && replicationListen.length > 0)
    throw refusal('--read-only and --replication-listen exclude each other: what is received is written');
  const addresses = replicationListen.map((text) => addressOption(text, '--replication-listen'));
  const own = addresses.length === 0 ? undefined : await loadOwn(options, logger);
  return { addresses, own, client: await loadClient(options, logger), isInsecure };
}

/** Clients have to prove themselves, whatever NBD clients have to. */
async function loadOwn(
  { tlsPsk, tlsCertificates }: ReplicationOptions,
  logger: Logger,
): Promise<TlsCredentials | undefined> {
  if (tlsPsk !== undefined) return await loadSharedKeys(path.resolve(tlsPsk), logger);
  if (tlsCertificates === undefined) return undefined;
  return await loadCertificates(path.resolve(tlsCertificates), true, logger);
}

async function loadClient(
  options: ReplicationOptions,
  logger: Logger,
): Promise<ClientCredentials | undefined> {
  const {
    replicationTlsPsk: file,
    replicationTlsName: name,
    replicationTlsCertificates: directory,
  } = options;
  if (file !== undefined && directory !== undefined)
    throw refusal('--replication-tls-psk and --replication-tls-certificates exclude each other: give one');
  if ((file === undefined) !== (name === undefined))
    throw refusal('--replication-tls-psk FILE and --replication-tls-name NAME go together: give both');
  if (directory !== undefined) return await loadClientCertificates(path.resolve(directory), logger);
  return file === undefined ? undefined : await loadClientKey(path.resolve(file), name!, logger);
}

export class ServedReplication {
  readonly #terms: ReplicationTerms;
  readonly #listener: ReplicationListener;
  readonly #replicator: Replicator;
  readonly #logger: Logger;
  readonly #clock: Clock = systemClock;

  constructor(store: Store, terms: ReplicationTerms | undefined, logger: Logger) {
    const { own, client, isInsecure } = terms ?? NOTHING;
    this.#terms = terms ?? NOTHING;
    this.#logger = logger;
    const clock = this.#clock;
    this.#listener = new ReplicationListener({ store, clock, logger, credentials: own, isInsecure });
    this.#replicator = new Replicator({
      store,
      clock,
      logger,
      chance: Math.random,
      dial: (address, signal) => dial(address, { credentials: client, isInsecure }, clock, signal),
    });
  }

  /** @throws IN_USE, INVALID_ARGUMENT, IO */
  async start(): Promise<void> {
    for (const wanted of this.#terms.addresses) {
      const address = await this.#listener.listen(wanted);
      this.#logger.info({ address }, 'other stores may connect');
    }
    this.#replicator.start();
  }

  /** Sessions are cut off; waits for what they have begun in the store, but no longer than so. */
  async stop(msMax: number): Promise<void> {
    const ended = Promise.all([this.#replicator.stop(), this.#listener.close()]);
    let cancel = (): void => undefined;
    const late = new Promise<void>((resolve) => {
      cancel = this.#clock.after(msMax, resolve);
    });
    await Promise.race([ended, late]);
    cancel();
  }
}

function refusal(message: string): StoreError {
  return new StoreError('INVALID_ARGUMENT', message);
}
