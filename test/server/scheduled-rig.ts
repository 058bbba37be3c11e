/**
 * A scheduler over a real catalog and its schedules, with nothing below them: changes take effect at once. The clock stands still
 * until a test moves it, and can be set, as clocks of machines are: timers go by time that passes, not by what it says.
 */

import type { Clock } from '../../src/base/clock.ts';
import type { StoreError } from '../../src/base/errors.ts';
import { silentLogger } from '../../src/base/logger.ts';
import type { Hook } from '../../src/server/hook.ts';
import { Scheduler } from '../../src/server/scheduler.ts';
import { Catalog, type Snapshot, type Volume } from '../../src/volume/catalog.ts';
import type { Change } from '../../src/volume/change.ts';
import { Schedules, type SchedulesNeeds } from '../../src/volume/schedules.ts';
import { activeHolds } from '../../src/volume/version-changes.ts';

export class SetClock implements Clock {
  /** Milliseconds that have passed. */
  passed = 0;
  #ahead = Date.UTC(2026, 0, 1, 0, 30);
  #timers: { at: number; action: () => void }[] = [];

  now(): number {
    return this.passed + this.#ahead;
  }

  after(delayMs: number, action: () => void): () => void {
    const timer = { at: this.passed + delayMs, action };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((each) => each !== timer);
    };
  }

  get waiting(): number {
    return this.#timers.length;
  }

  /** Sets what it says, so much forward or back. */
  set(ms: number): void {
    this.#ahead += ms;
  }

  /** Time passes, in one step: what is due within it is called at its end. */
  async pass(ms: number): Promise<void> {
    this.passed += ms;
    const due = this.#timers.filter(({ at }) => at <= this.passed);
    this.#timers = this.#timers.filter(({ at }) => at > this.passed);
    for (const { action } of due) action();
    await settled();
  }
}

/** What was begun, and waits for nothing but turns, is over. */
export async function settled(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

export class ScheduledRig {
  readonly clock = new SetClock();
  readonly catalog = new Catalog();
  readonly schedules: Schedules;
  /** UUIDs of snapshots that a client has. */
  readonly inUse = new Set<string>();
  readonly hooks: Hook[] = [];
  runHook: (hook: Hook, clock: Clock, stopping: AbortSignal) => Promise<void> = async () => undefined;
  /** What changes fail with, by their kind. */
  readonly failures = new Map<Change['op'], StoreError>();
  /** Snapshots that were deleted by schedules, and what is wrong with that. */
  readonly gone: Snapshot[] = [];
  readonly wrongs: string[] = [];
  readonly warnings: object[] = [];
  scheduler: Scheduler | undefined;
  #sequence = 0;
  #label = 0;

  constructor() {
    this.schedules = new Schedules({
      catalog: this.catalog,
      writer: {
        run: (_labels: number, body: () => Promise<unknown>) => body(),
        takeLabel: () => ++this.#label,
        append: (change: Change) => this.#append(change),
      },
      fence: {
        run: async <T>(
          find: () => Snapshot[],
          _force: boolean,
          change: (isFenced: (of: Snapshot) => boolean) => Promise<T | undefined>,
        ): Promise<T> => {
          for (;;) {
            const fenced = new Set(find());
            const result = await change((of) => fenced.has(of));
            if (result !== undefined) return result;
          }
        },
      },
      disks: { attachedTo: ({ uuid }: Snapshot) => (this.inUse.has(uuid) ? 1 : 0), forget: () => undefined },
      clock: this.clock,
      onHidden: () => undefined,
    } as unknown as SchedulesNeeds);
  }

  /** A server begins. */
  serve(): Scheduler {
    this.scheduler = new Scheduler({
      store: { schedules: this.schedules, flush: async () => undefined },
      logger: { ...silentLogger, warn: (fields: object) => void this.warnings.push(fields) } as never,
      clock: this.clock,
      runHook: async (hook, clock, stopping) => {
        this.hooks.push(hook);
        await this.runHook(hook, clock, stopping);
      },
    });
    this.scheduler.wake();
    return this.scheduler;
  }

  apply(change: Change): void {
    this.catalog.apply(change, ++this.#sequence);
  }

  create(name: string): Volume {
    const label = ++this.#label;
    this.apply({ op: 'create', at: this.clock.now(), volume: `uuid-${name}`, name, size: 1 << 20, label });
    return this.catalog.find(name) as Volume;
  }

  /** A snapshot that somebody makes. */
  snapshot(volume: Volume, name: string, by?: 'schedule' | 'target'): Snapshot {
    const label = ++this.#label;
    const cut = { volume: volume.uuid, snapshot: `uuid-${label}`, name, label };
    this.apply({ op: 'snapshot', at: this.clock.now(), ...(by === undefined ? {} : { by }), cuts: [cut] });
    return volume.snapshots.get(name)!;
  }

  /** A snapshot that is received into a replica, which is made by the first one. */
  receive(volumeName: string, name: string, created: number, by?: 'schedule' | 'target'): void {
    const existing = this.catalog.hasVolume(volumeName)
      ? (this.catalog.find(volumeName) as Volume)
      : undefined;
    const [receive, label] = [`receive-${name}`, ++this.#label];
    const target = { uuid: `far-${name}`, size: 1 << 20, created, ...(by === undefined ? {} : { by }) };
    const source = { store: 'far', volume: 'far-volume', target, base: null };
    const [at, size, volume] = [this.clock.now(), 1 << 20, existing?.uuid ?? null];
    this.apply({ op: 'receive', at, receive, label, from: 0, size, volume, volumeName, name, source });
    const uuid = existing?.uuid ?? `uuid-${volumeName}`;
    this.apply({ op: 'publish', at, receive, volume: uuid, snapshot: `uuid-${name}`, label: ++this.#label });
  }

  async #append(change: Change): Promise<void> {
    const failure = this.failures.get(change.op);
    if (failure !== undefined) throw failure;
    if (change.op === 'delete') for (const label of change.snapshots) this.#judge(label);
    this.apply(change);
  }

  /** What a schedule may never delete. */
  #judge(label: number): void {
    const snapshot = this.catalog.at(label) as Snapshot;
    const { name, madeBy, volume, priority, uuid } = snapshot;
    this.gone.push(snapshot);
    const makers = volume.isReplica ? ['schedule', 'target'] : ['schedule'];
    const own = [...volume.snapshots.values()].filter((each) => makers.includes(String(each.madeBy)));
    const wrong = (what: string): void => void this.wrongs.push(`${name}, which ${what}`);
    if (!makers.includes(String(madeBy))) wrong('no schedule made');
    if (activeHolds(snapshot, this.clock.now()).length > 0) wrong('is held');
    if (this.inUse.has(uuid)) wrong('is in use');
    if (priority === 127) wrong('never goes');
    if (own.at(-1) === snapshot) wrong('is the newest');
  }
}
