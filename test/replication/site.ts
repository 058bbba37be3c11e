/** A store with what `serve` does for replication, in this process: listens, runs feeds, and can be cut off and come back. */

import fs from 'node:fs';
import path from 'node:path';
import type { Duplex } from 'node:stream';
import type { TcpAddress } from '../../src/base/address.ts';
import { type Clock, systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import { dial } from '../../src/replication/dial.ts';
import { ReplicationListener } from '../../src/replication/listener.ts';
import { Replicator } from '../../src/replication/replicator.ts';
import type { ClientCredentials } from '../../src/tls/client.ts';
import type { TlsCredentials } from '../../src/tls/credentials.ts';
import type { FeedRequest } from '../../src/volume/feed-changes.ts';
import { Store } from '../../src/volume/store.ts';
import type { FeedSummary } from '../../src/volume/summary.ts';
import { pause } from '../support/programs.ts';
import { onStore, scratchDirectory, write } from '../support/stores.ts';
import { contents } from '../volume/replicas.ts';

const LOGGER = { ...silentLogger, child: () => LOGGER } as never;

export interface SiteOptions {
  readonly own?: TlsCredentials;
  readonly client?: ClientCredentials;
  readonly clock?: Clock;
  readonly chance?: () => number;
  readonly dial?: (address: string, signal: AbortSignal) => Promise<Duplex>;
}

export class Site {
  readonly directory = scratchDirectory();
  readonly #options: SiteOptions;
  store!: Store;
  replicator!: Replicator;
  listener!: ReplicationListener;
  port = 0;
  #shiftMs = 0;

  private constructor(options: SiteOptions) {
    this.#options = options;
  }

  static async make(options: SiteOptions = {}): Promise<Site> {
    const site = new Site(options);
    await Store.init(site.directory, { segmentBytes: 1 << 20 });
    await site.start();
    return site;
  }

  async start(): Promise<void> {
    const shifted = { ...systemClock, now: () => systemClock.now() + this.#shiftMs };
    const { own, client, clock = shifted, chance = () => 0.5 } = this.#options;
    this.store = await Store.open(this.directory, { clock });
    const { store } = this;
    this.listener = new ReplicationListener({
      store,
      clock: systemClock,
      logger: LOGGER,
      credentials: own,
      isInsecure: false,
    });
    const bound = await this.listener.listen({ host: '127.0.0.1', port: this.port });
    this.port = (bound as TcpAddress).port;
    this.replicator = new Replicator({
      store,
      clock,
      logger: LOGGER,
      chance,
      dial:
        this.#options.dial ??
        ((address, signal) => dial(address, { credentials: client, isInsecure: false }, systemClock, signal)),
    });
    this.replicator.start();
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  async stop(): Promise<void> {
    await Promise.all([this.replicator.stop(), this.listener.close()]);
    await this.store.close();
  }

  async remove(): Promise<void> {
    await this.stop();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }

  async push(volume: string, to: Site, more: Partial<FeedRequest> = {}): Promise<string> {
    return await this.#add({ direction: 'push', volume, address: to.address, peerVolume: volume, ...more });
  }

  async pull(volume: string, from: Site, more: Partial<FeedRequest> = {}): Promise<string> {
    return await this.#add({ direction: 'pull', volume, address: from.address, peerVolume: volume, ...more });
  }

  /** An hour apart, so that a test says when. */
  async #add(
    request: Pick<FeedRequest, 'direction' | 'volume' | 'address' | 'peerVolume'> & Partial<FeedRequest>,
  ): Promise<string> {
    const terms = { everyMs: 3_600_000, rate: null, snapshots: 'made' as const };
    return (await this.store.feeds.add({ ...terms, ...request })).id;
  }

  /** Runs a feed until it has come to its end; answers how. */
  async run(id: string): Promise<FeedSummary> {
    this.#shiftMs += 1000; // names of snapshots have their second
    await this.idle(id);
    this.store.feeds.run(id);
    return await this.idle(id);
  }

  async idle(id: string): Promise<FeedSummary> {
    for (;;) {
      const feed = this.store.feeds.show(id);
      if (['idle', 'failing', 'paused'].includes(feed.state)) return feed;
      await pause(2);
    }
  }

  async write(volume: string, offset: number, bytes: Buffer): Promise<void> {
    await onStore(this.store, volume, (device) => write(device, offset, bytes));
  }

  /** Names of the snapshots of a volume, without it. */
  snapshots(volume: string): string[] {
    return (this.store.feeds.volumeNamed(volume)?.snapshots ?? []).map(({ name }) => name.split('@')[1]!);
  }

  /** Who holds which snapshots of a volume: `NAME OWNER` each. */
  holds(volume: string): string[] {
    const all = this.store.feeds.volumeNamed(volume)?.snapshots ?? [];
    return all.flatMap(({ name, holds }) => holds.map(({ owner }) => `${name} ${owner}`));
  }

  contents(name: string): Promise<Buffer> {
    return contents(this.store, name);
  }

  file(name: string): string {
    return path.join(this.directory, name);
  }
}
