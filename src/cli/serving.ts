/**
 * A store being served: opened, with its control socket and its NBD listeners, until it is stopped.
 *
 * Invariants: if anything fails on the way up, all that was opened is closed again; `stop` closes the doors before
 * the store, so that whatever was answered is in the log, and ends within its time.
 */

import path from 'node:path';
import type { Logger } from 'pino';
import { hasCode, StoreError } from '../base/errors.ts';
import type { AccessRules } from '../nbd/access-rules.ts';
import type { NbdLimits } from '../nbd/limits.ts';
import type { ListenerAddress, TcpAddress } from '../base/address.ts';
import { systemClock } from '../base/clock.ts';
import { NbdServer } from '../nbd/server.ts';
import { ControlServer } from '../server/control-server.ts';
import { MetricsListener } from '../server/metrics-listener.ts';
import { Scheduler } from '../server/scheduler.ts';
import { type OpenStore, StoreDoor } from '../server/store-door.ts';
import { ReadOnlyStore } from '../volume/read-only-store.ts';
import { Store } from '../volume/store.ts';
import type { VersionSummary } from '../volume/summary.ts';
import type { InheritedFd } from './activation.ts';
import { nbdUri, type UriSecurity } from './nbd-address.ts';
import type { ServedTls } from './nbd-tls.ts';
import { controlSocketOf, retryWhileOwned } from './reach-store.ts';
import { type ReplicationTerms, ServedReplication } from './replication.ts';
import { formatSize } from './size.ts';

/** Of the five seconds that a stop may take, those that clients get to finish; the rest is the store's. */
const CLIENTS_MS_MAX = 2_500;

export interface ServingOptions {
  readonly directory: string;
  /** Unix sockets to listen on. */
  readonly sockets: readonly string[];
  readonly addresses: readonly TcpAddress[];
  /** Sockets that this process was started with. */
  readonly inherited: readonly InheritedFd[];
  readonly access: AccessRules;
  /** What to do about a port that is in use, for the end of a sentence. */
  readonly otherPort: string;
  /** Nothing can write, this process included: damaged stores are opened as far as they are whole. */
  readonly readOnly: boolean;
  readonly cacheBytes: number | undefined;
  /** Bytes a second that compaction copies at most. */
  readonly compactionRate: number | undefined;
  /** What clients may take, where it is not the default. */
  readonly limits: Partial<NbdLimits>;
  /** Undefined if NBD clients cannot have TLS. */
  readonly tls: ServedTls | undefined;
  /** Undefined where nothing is replicated. */
  readonly replication: ReplicationTerms | undefined;
  /** Where metrics are answered; nowhere but on the control socket, if empty. */
  readonly metrics: readonly ListenerAddress[];
  readonly logger: Logger;
}

/** An NBD URI: which volume, and where. */
export interface ServedVolume {
  readonly uri: string;
  readonly volume: string;
}

export class Serving {
  readonly store: OpenStore;
  readonly #control: ControlServer;
  readonly #metrics: MetricsListener;
  /** None makes snapshots of what is only read. */
  readonly #scheduler: Scheduler | undefined;
  readonly #nbd: NbdServer;
  readonly #access: AccessRules;
  readonly #security: UriSecurity | undefined;
  /** Undefined for a store that is only read. */
  readonly #replication: ServedReplication | undefined;

  private constructor(store: OpenStore, options: ServingOptions) {
    const { logger, access } = options;
    this.store = store;
    this.#access = access;
    this.#security = options.tls?.security;
    this.#scheduler = store instanceof Store ? new Scheduler({ store, logger }) : undefined;
    const door = new StoreDoor(store, this.#scheduler);
    this.#control = new ControlServer({ door, logger });
    this.#metrics = new MetricsListener({ door, clock: systemClock, logger });
    this.#replication =
      store instanceof Store ? new ServedReplication(store, options.replication, logger) : undefined;
    this.#nbd = new NbdServer({
      exports: {
        list: () => store.names(),
        open: (name) => store.device(name),
        describe: (name) => describe(store.show(name)),
      },
      access,
      logger,
      readOnly: options.readOnly,
      limits: options.limits,
      tls: options.tls?.offer,
    });
  }

  /** @throws NOT_A_STORE, LOCKED, IN_USE (an address), and what opening throws */
  static async start(options: ServingOptions): Promise<Serving> {
    const { directory, cacheBytes, compactionRate, logger, readOnly } = options;
    const store = await retryWhileOwned((): Promise<OpenStore> => {
      const open = { logger, cacheBytes, compactionRate };
      return readOnly ? ReadOnlyStore.open(directory, open) : Store.open(directory, open);
    });
    const serving = new Serving(store, options);
    try {
      // First, because commands that find the store locked look for it.
      await serving.#control.listen(controlSocketOf(directory));
      for (const socket of options.sockets) await serving.#nbd.listenUnix(path.resolve(socket));
      for (const address of options.addresses) await listen(serving.#nbd, address, options.otherPort);
      for (const { fd, name } of options.inherited) await serving.#nbd.listenInherited(fd, name);
      for (const wanted of options.metrics) {
        const address = await serving.#metrics.listen(wanted);
        logger.info({ address }, 'metrics are answered');
      }
      serving.#scheduler?.wake();
      await serving.#replication?.start();
      return serving;
    } catch (error) {
      await serving
        .stop()
        .catch((failure: unknown) => logger.error({ err: failure }, 'closing failed as well'));
      throw error;
    }
  }

  /** One for each volume and listener over which some client may have it, as things are now. */
  volumes(): ServedVolume[] {
    const volumes = this.store.list().filter(({ kind }) => kind === 'volume');
    return volumes.flatMap(({ name: volume }) =>
      this.#nbd.listeners.flatMap(({ name, address }) =>
        address !== undefined && this.#access.mayOffer(name, volume)
          ? [{ uri: nbdUri(address, volume, this.#security), volume }]
          : [],
      ),
    );
  }

  /** Ends all connections, then closes the store. */
  async stop(): Promise<void> {
    await Promise.all([
      this.#nbd.close(CLIENTS_MS_MAX),
      this.#control.close(CLIENTS_MS_MAX),
      this.#metrics.close(CLIENTS_MS_MAX),
      this.#scheduler?.close(),
      this.#replication?.stop(CLIENTS_MS_MAX),
    ]);
    await this.store.close();
  }
}

/** What clients are told of an export beside its name. */
function describe({ kind, size, created }: VersionSummary): string {
  const made = created.slice(0, 19).replace('T', ' ');
  return `${kind} of ${formatSize(size)}, made ${made} UTC`;
}

async function listen(nbd: NbdServer, { host, port }: TcpAddress, otherPort: string): Promise<void> {
  try {
    await nbd.listenTcp(host, port);
  } catch (error) {
    if (hasCode(error, 'IN_USE')) {
      throw new StoreError(
        'IN_USE',
        `port ${port} of ${host} is in use; stop what listens there, or ${otherPort}`,
      );
    }
    if (!(error instanceof StoreError)) throw error;
    throw new StoreError(error.code, `${error.message}; listen on an address of this machine`, error);
  }
}
