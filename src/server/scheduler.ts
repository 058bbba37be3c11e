/**
 * Makes snapshots when schedules say so, and thins them, while a store is served.
 *
 * It looks at all schedules when one of them is due, and once a minute: the clock may have been set, a replica may have received
 * something. What it does for a volume is one of two tasks, each by itself: the snapshot that is due, or thinning what has changed.
 *
 * Invariants: a volume has one task at a time, all together a bounded number; what fails for one is told, tried again with
 * a growing pause, and stops no other; a command that freezes is followed by the one that thaws, whatever happens.
 */

import type { Logger } from 'pino';
import { type Clock, systemClock } from '../base/clock.ts';
import { StoreError } from '../base/errors.ts';
import { dueAt, nextOf } from '../schedule/due.ts';
import type { Followed, Schedule } from '../schedule/schedule.ts';
import type { ScheduledVolume } from '../volume/schedules.ts';
import type { ScheduleSummary } from '../volume/summary.ts';
import { type Hook, runHook } from './hook.ts';

const LOOK_MS_MAX = 60_000;
const TASKS_MAX = 4;
const RETRY_MS_FIRST = 60_000;
const RETRY_MS_MAX = 3_600_000;

/** What it needs of a store. */
export interface SchedulerStore {
  readonly schedules: {
    scheduled(): ScheduledVolume[];
    rulesOf(schedule: Schedule): readonly Followed[];
    nameFor(uuid: string): { volume: string; snapshot: string };
    take(uuid: string, name: string): Promise<void>;
    thin(uuid: string): Promise<string[]>;
  };
  flush(): Promise<void>;
}

export interface SchedulerOptions {
  readonly store: SchedulerStore;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
  readonly clock?: Clock;
  readonly runHook?: typeof runHook;
}

type Task = 'snapshot' | 'thin';

/** How it goes with a volume's schedule. Times are milliseconds since 1970. */
interface Progress {
  /** When the next snapshot is due, as planned for this state; and the first moment of its rules that is still to come. */
  due: number;
  planned: string | undefined;
  following: number;
  /** The state that was thinned last. */
  thinned: string | undefined;
  /** Attempts that have failed, one after the other. */
  failures: number;
  /** Nothing is tried before. */
  retryAt: number;
  error: { of: Task; at: number; message: string } | undefined;
  running: Promise<void> | undefined;
}

export class Scheduler {
  readonly #store: SchedulerStore;
  readonly #logger: Pick<Logger, 'info' | 'warn'>;
  readonly #clock: Clock;
  readonly #runHook: typeof runHook;
  /** By UUID of the volume. */
  readonly #progress = new Map<string, Progress>();
  readonly #stopping = new AbortController();
  #running = 0;
  #cancelTimer: (() => void) | undefined;

  constructor(options: SchedulerOptions) {
    this.#store = options.store;
    this.#logger = options.logger;
    this.#clock = options.clock ?? systemClock;
    this.#runHook = options.runHook ?? runHook;
  }

  /** Looks what is to be done: to begin with, and whenever a schedule has been set. */
  wake(): void {
    if (this.#stopping.signal.aborted) return;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    const now = this.#clock.now();
    const volumes = this.#store.schedules.scheduled();
    this.#forgetOthers(volumes);
    let next = Infinity;
    for (const volume of volumes) {
      const progress = this.#progressOf(volume.uuid);
      const { task, at } = this.#planned(volume, progress, now);
      next = Math.min(next, at > now ? at : Infinity);
      if (at <= now && progress.running === undefined && this.#running < TASKS_MAX)
        this.#start(volume, progress, task);
    }
    // The end of a task looks again, so nobody waits for a free place longer than that.
    const delay = Math.min(next - now, LOOK_MS_MAX);
    if (volumes.length > 0) this.#cancelTimer = this.#clock.after(delay, () => this.wake());
  }

  /** What is told of a schedule, with how it goes here. */
  withProgress(summary: ScheduleSummary): ScheduleSummary {
    const progress = this.#progress.get(summary.uuid);
    if (progress === undefined) return summary;
    const { due, planned, error } = progress;
    const isPlanned = summary.nextDue !== null && planned !== undefined && due < Infinity;
    return {
      ...summary,
      nextDue: isPlanned ? new Date(due).toISOString() : summary.nextDue,
      error:
        error === undefined
          ? summary.error
          : { at: new Date(error.at).toISOString(), message: error.message },
    };
  }

  /** Ends: nothing is begun any more, and what is under way is over when this resolves. */
  async close(): Promise<void> {
    this.#stopping.abort();
    this.#cancelTimer?.();
    for (const { running } of this.#progress.values()) await running;
  }

  #progressOf(uuid: string): Progress {
    let progress = this.#progress.get(uuid);
    if (progress === undefined) {
      const none = { planned: undefined, thinned: undefined, error: undefined, running: undefined };
      progress = { due: Infinity, following: Infinity, failures: 0, retryAt: 0, ...none };
      this.#progress.set(uuid, progress);
    }
    return progress;
  }

  #forgetOthers(volumes: readonly ScheduledVolume[]): void {
    const uuids = new Set(volumes.map(({ uuid }) => uuid));
    for (const [uuid, { running }] of this.#progress)
      if (!uuids.has(uuid) && running === undefined) this.#progress.delete(uuid);
  }

  /** What is to be done next for a volume, and when. */
  #planned(volume: ScheduledVolume, progress: Progress, now: number): { task: Task; at: number } {
    // A clock that was set back must not make a pause longer.
    progress.retryAt = Math.min(progress.retryAt, now + RETRY_MS_MAX);
    let due = Infinity;
    if (!volume.isReplica) {
      try {
        const rules = this.#store.schedules.rulesOf(volume.schedule);
        const before = progress.planned === stateOf(volume) ? progress.due : Infinity;
        due = dueAt(rules, volume.last, now, before);
        Object.assign(progress, { due, planned: stateOf(volume), following: nextOf(rules, now) });
      } catch (error) {
        if (progress.retryAt <= now) this.#failed(volume, progress, 'snapshot', error);
        return { task: 'snapshot', at: Infinity };
      }
    }
    if (due <= now || progress.thinned === stateOf(volume))
      return { task: 'snapshot', at: Math.max(due, progress.retryAt) };
    return { task: 'thin', at: Math.min(due, Math.max(now, progress.retryAt)) };
  }

  #start(volume: ScheduledVolume, progress: Progress, task: Task): void {
    this.#running += 1;
    const run = async (): Promise<void> => {
      try {
        if (task === 'snapshot') await this.#snapshot(volume);
        else await this.#thin(volume, progress);
        progress.failures = 0;
        progress.retryAt = 0;
        if (progress.error?.of === task) progress.error = undefined;
      } catch (error) {
        this.#failed(volume, progress, task, error);
      } finally {
        progress.running = undefined;
        this.#running -= 1;
      }
      this.wake();
    };
    progress.running = run();
  }

  async #snapshot({ uuid, schedule }: ScheduledVolume): Promise<void> {
    const { schedules } = this.#store;
    const { volume, snapshot } = schedules.nameFor(uuid);
    const name = `${volume}@${snapshot}`;
    const environment = { COPPICE_VOLUME: volume, COPPICE_SNAPSHOT: name };
    const { hookBefore, hookAfter } = schedule;
    const run = async (command: string | null, when: Hook['when']): Promise<void> => {
      if (command === null) return;
      await this.#runHook({ command, when, environment }, this.#clock, this.#stopping.signal);
    };
    let failure: unknown;
    try {
      await run(hookBefore, 'before');
      await schedules.take(uuid, snapshot);
    } catch (error) {
      failure = error;
    }
    try {
      await run(hookAfter, 'after');
    } catch (error) {
      failure ??= error;
    }
    if (failure !== undefined) throw failure;
    await this.#store.flush();
    this.#logger.info({ snapshot: name }, 'schedule: made a snapshot');
  }

  async #thin(volume: ScheduledVolume, progress: Progress): Promise<void> {
    const gone = await this.#store.schedules.thin(volume.uuid);
    progress.thinned = stateOf(volume);
    if (gone.length > 0) this.#logger.info({ volume: volume.name, snapshots: gone }, 'schedule: thinned');
  }

  #failed(volume: ScheduledVolume, progress: Progress, task: Task, error: unknown): void {
    if (!(error instanceof StoreError)) {
      // A programmer's mistake: nobody waits for it, and the server must not go on.
      setImmediate(() => {
        throw error;
      });
      return;
    }
    if (this.#stopping.signal.aborted) return;
    const now = this.#clock.now();
    const pause = Math.min(RETRY_MS_FIRST * 2 ** progress.failures, RETRY_MS_MAX);
    progress.failures += 1;
    progress.retryAt = Math.min(now + pause, progress.following);
    progress.error = { of: task, at: now, message: error.message };
    this.#logger.warn(
      { volume: volume.name, error: error.message, code: error.code, retryMs: progress.retryAt - now },
      task === 'snapshot' ? 'schedule: no snapshot' : 'schedule: not thinned',
    );
  }
}

/** What plans and thinning depend on, but for time. */
function stateOf({ schedule, newest, isReplica }: ScheduledVolume): string {
  return JSON.stringify([schedule, newest?.uuid, isReplica]);
}
