/**
 * Schedules of volumes: set, told, and what is done by them: snapshots, and thinning. When is for who serves the store to say
 * (server/scheduler.ts).
 *
 * Invariants: what goes is decided in the turn of its change, so that a hold or a rename that came before counts; of what a
 * person or a rollback has made, nothing goes, nor what is held, in use, or has the highest priority. A replica makes none.
 */

import { randomUUID } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { fromSystemError, StoreError } from '../base/errors.ts';
import { dueAt } from '../schedule/due.ts';
import { type Decision, retain, type Thinned } from '../schedule/retention.ts';
import {
  Calendars,
  checkedSettings,
  type Followed,
  type Schedule,
  type ScheduleSettings,
} from '../schedule/schedule.ts';
import { type Catalog, fullName, type Snapshot, type Volume } from './catalog.ts';
import type { ChangeWriter } from './change-writer.ts';
import type { Fence } from './fence.ts';
import { isoTime } from './listing.ts';
import type { OpenDisks } from './open-disks.ts';
import type { PruneDecision, ScheduleSummary } from './summary.ts';
import { activeHolds, PRIORITY_MAX } from './version-changes.ts';

/** Snapshots that one change deletes: their labels must fit into an entry of the log. */
const THINNED_MAX = 1000;

export interface SchedulesNeeds {
  readonly catalog: Catalog;
  readonly writer: ChangeWriter;
  readonly fence: Fence;
  readonly disks: OpenDisks;
  readonly clock: Clock;
  /** Something was deleted. */
  readonly onHidden: () => void;
}

export interface PruneOptions {
  /** Only this volume; all that have a schedule if it is missing. */
  volume?: string | undefined;
  /** Nothing is deleted. */
  dryRun: boolean;
}

/** A volume with its schedule. Times are milliseconds since 1970. */
export interface ScheduledVolume {
  readonly uuid: string;
  readonly name: string;
  readonly schedule: Schedule;
  readonly isReplica: boolean;
  /** The last snapshot of the schedule, or of a replica, of anybody's. */
  readonly newest: { readonly uuid: string; readonly name: string } | null;
  /** The moment from which on the next one is due. */
  readonly last: number;
}

export class Schedules {
  readonly #needs: SchedulesNeeds;
  readonly #calendars = new Calendars();

  constructor(needs: SchedulesNeeds) {
    this.#needs = needs;
  }

  /**
   * Gives a volume a schedule, or takes it away. One that it has already stays as it is.
   * @throws NOT_FOUND, INVALID_ARGUMENT, NO_SPACE, IO, POISONED
   */
  async set(name: string, settings: ScheduleSettings | null): Promise<ScheduleSummary | null> {
    const { catalog, writer, clock } = this.#needs;
    const checked = settings === null ? null : checkedSettings(settings);
    const volume = await writer.run(0, async () => {
      const found = findVolume(catalog, name);
      const at = clock.now();
      const schedule = checked === null ? null : { ...checked, since: at };
      if (!isSame(found.schedule, schedule))
        await writer.append({ op: 'schedule', at, volume: found.uuid, schedule });
      return found;
    });
    return volume.schedule === null ? null : this.#summarize(scheduled(volume, volume.schedule, clock.now()));
  }

  /** All schedules, by the name of their volume. */
  list(): ScheduleSummary[] {
    return this.scheduled().map((each) => this.#summarize(each));
  }

  /** Volumes that have one, by name. */
  scheduled(): ScheduledVolume[] {
    const now = this.#needs.clock.now();
    return withSchedule(this.#needs.catalog).map(([volume, schedule]) => scheduled(volume, schedule, now));
  }

  /** The rules of a schedule. @throws INVALID_ARGUMENT if they cannot be followed on this machine */
  rulesOf(schedule: Schedule): readonly Followed[] {
    return this.#calendars.of(schedule);
  }

  /** The volume, and what a snapshot of it can be called at this moment. @throws NOT_FOUND */
  nameFor(uuid: string): { volume: string; snapshot: string } {
    const { name: volume, snapshots } = this.#volume(uuid);
    const time = new Date(this.#needs.clock.now()).toISOString().replace(/[-:]|\.\d+/g, '');
    const base = `auto-${time}`;
    let snapshot = base;
    for (let n = 2; snapshots.has(snapshot); n++) snapshot = `${base}-${n}`;
    return { volume, snapshot };
  }

  /** Makes the snapshot that is due. @throws NOT_FOUND, ALREADY_EXISTS, NO_SPACE, IO, POISONED */
  async take(uuid: string, name: string): Promise<void> {
    const { writer, clock } = this.#needs;
    await writer.run(1, async () => {
      const volume = this.#volume(uuid);
      if (volume.schedule === null || volume.isReplica)
        throw new StoreError('NOT_FOUND', `${volume.name} has no schedule for snapshots any more`);
      if (volume.snapshots.has(name))
        throw new StoreError('ALREADY_EXISTS', `somebody has made ${volume.name}@${name} meanwhile`);
      const cut = { volume: uuid, snapshot: randomUUID(), name, label: writer.takeLabel() };
      await writer.append({ op: 'snapshot', at: clock.now(), by: 'schedule', cuts: [cut] });
    });
  }

  /** Deletes what the schedule of a volume does not keep; answers the names. @throws NOT_FOUND, NO_SPACE, IO, POISONED */
  async thin(uuid: string): Promise<string[]> {
    const gone: string[] = [];
    for (;;) {
      const names = await this.#thinSome(uuid);
      gone.push(...names);
      if (names.length < THINNED_MAX) return gone;
    }
  }

  async #thinSome(uuid: string): Promise<string[]> {
    const { writer, fence, disks, clock } = this.#needs;
    const going = (): Snapshot[] => {
      const volume = this.#volume(uuid);
      if (volume.schedule === null) return [];
      const snapshots = this.#decide(volume, volume.schedule).filter(({ goes }) => goes);
      return snapshots.slice(0, THINNED_MAX).map(({ of }) => of.snapshot);
    };
    if (going().length === 0) return [];
    const gone = await fence.run(going, false, async (isFenced) => {
      const snapshots = going();
      if (!snapshots.every(isFenced)) return undefined; // there are other snapshots by now
      if (snapshots.length === 0) return [];
      const names = snapshots.map(fullName);
      const labels = snapshots.map(({ label }) => label);
      await writer.append({ op: 'delete', at: clock.now(), volumes: [], snapshots: labels });
      for (const snapshot of snapshots) disks.forget(snapshot.uuid);
      return names;
    });
    if (gone.length > 0) this.#needs.onHidden();
    return gone;
  }

  /** Thins now; answers what was decided of each snapshot. @throws as thin, INVALID_ARGUMENT without a schedule */
  async prune({ volume: name, dryRun }: PruneOptions): Promise<PruneDecision[]> {
    const { catalog } = this.#needs;
    const volumes =
      name === undefined ? withSchedule(catalog).map(([each]) => each) : [findVolume(catalog, name)];
    const decisions: PruneDecision[] = [];
    for (const volume of volumes) {
      // While another one was thinned, this one may have been deleted, or lost its schedule.
      if (catalog.withUuid(volume.uuid) === undefined || (name === undefined && volume.schedule === null))
        continue;
      const before = this.#decideNow(volume);
      const gone = new Set(dryRun ? [] : await this.thin(volume.uuid));
      const went = before.filter(({ of }) => gone.has(fullName(of.snapshot)));
      const rest = dryRun ? before : this.#decideNow(volume);
      decisions.push(...[...went, ...rest].map(told));
    }
    return decisions;
  }

  /** @throws INVALID_ARGUMENT without a schedule */
  #decideNow(volume: Volume): Decision<Judged>[] {
    if (volume.schedule !== null) return this.#decide(volume, volume.schedule);
    throw new StoreError(
      'INVALID_ARGUMENT',
      `${volume.name} has no schedule; give it one with \`coppice schedule ${volume.name} --daily 7\``,
    );
  }

  #decide(volume: Volume, schedule: Schedule): Decision<Judged>[] {
    const now = this.#needs.clock.now();
    const snapshots = [...volume.snapshots.values()].map((snapshot) => ({
      snapshot,
      created: snapshot.created,
      foreign: whyForeign(snapshot),
      protected: this.#whyProtected(snapshot, now),
    }));
    return retain(snapshots, this.rulesOf(schedule));
  }

  #whyProtected(snapshot: Snapshot, now: number): string | undefined {
    const [hold] = activeHolds(snapshot, now);
    if (hold !== undefined) return `held by ${hold.owner}`;
    if (this.#needs.disks.attachedTo(snapshot) > 0) return 'in use';
    return snapshot.priority === PRIORITY_MAX ? `priority ${PRIORITY_MAX}` : undefined;
  }

  /** @throws NOT_FOUND */
  #volume(uuid: string): Volume {
    const found = this.#needs.catalog.withUuid(uuid);
    if (found !== undefined && !('volume' in found)) return found;
    throw new StoreError('NOT_FOUND', 'the volume was deleted meanwhile');
  }

  #summarize(volume: ScheduledVolume): ScheduleSummary {
    return summarizeSchedule(volume, this.#calendars, this.#needs.clock.now());
  }
}

interface Judged extends Thinned {
  readonly snapshot: Snapshot;
}

/** Those of a store that nobody can change, for who reads it. */
export function listSchedules(catalog: Catalog, now: number): ScheduleSummary[] {
  const calendars = new Calendars();
  return withSchedule(catalog).map(([volume, schedule]) =>
    summarizeSchedule(scheduled(volume, schedule, now), calendars, now),
  );
}

function summarizeSchedule(of: ScheduledVolume, calendars: Calendars, now: number): ScheduleSummary {
  const { uuid, name: volume, schedule, isReplica: replica, newest, last } = of;
  const { timeZone, rules, hookBefore, hookAfter, since } = schedule;
  const summary = { volume, uuid, timeZone, rules, hookBefore, hookAfter, since: isoTime(since), replica };
  try {
    const due = dueAt(calendars.of(schedule), last, now);
    const nextDue = replica || due === Infinity ? null : isoTime(due);
    return { ...summary, last: newest?.name ?? null, nextDue, error: null };
  } catch (error) {
    const { message } = fromSystemError(error, 'reading the schedule');
    return { ...summary, last: newest?.name ?? null, nextDue: null, error: { at: isoTime(now), message } };
  }
}

function withSchedule(catalog: Catalog): [Volume, Schedule][] {
  return catalog
    .volumes()
    .flatMap((volume): [Volume, Schedule][] => (volume.schedule === null ? [] : [[volume, volume.schedule]]))
    .sort(([a], [b]) => (a.name < b.name ? -1 : 1));
}

function scheduled(volume: Volume, schedule: Schedule, now: number): ScheduledVolume {
  const { uuid, name, isReplica } = volume;
  let newest: Snapshot | undefined;
  for (const snapshot of volume.snapshots.values()) if (whyForeign(snapshot) === undefined) newest = snapshot;
  // It may have been set by a clock that was ahead; what it has made counts all the same.
  const last = Math.max(Math.min(schedule.since, now), newest?.created ?? 0);
  return {
    uuid,
    name,
    schedule,
    isReplica,
    newest: newest === undefined ? null : { uuid: newest.uuid, name: fullName(newest) },
    last,
  };
}

/** Why a snapshot is none of its volume's schedule. What a replica has received may be thinned whatever program made it. */
function whyForeign({ isAutomatic, madeBy, origin, volume }: Snapshot): string | undefined {
  if (isAutomatic) return 'automatic';
  if (madeBy === null) return 'manual';
  return madeBy === 'schedule' || (volume.isReplica && origin !== null) ? undefined : `made by a ${madeBy}`;
}

/** @throws NOT_FOUND, INVALID_ARGUMENT */
function findVolume(catalog: Catalog, name: string): Volume {
  const found = catalog.find(name);
  if (!('volume' in found)) return found;
  throw new StoreError('INVALID_ARGUMENT', `${name} is a snapshot; only volumes have schedules`);
}

function isSame(one: Schedule | null, other: Schedule | null): boolean {
  if (one === null || other === null) return one === other;
  return JSON.stringify({ ...one, since: 0 }) === JSON.stringify({ ...other, since: 0 });
}

function told({ of, goes, keptBy, exempt }: Decision<Judged>): PruneDecision {
  const { snapshot, created } = of;
  const rules = keptBy.map(({ rule, periodEnd }) => `${rule}, up to ${isoTime(periodEnd)}`);
  const why = exempt === undefined ? rules : [exempt, ...rules];
  return {
    volume: snapshot.volume.name,
    snapshot: fullName(snapshot),
    created: isoTime(created),
    verdict: goes ? 'goes' : exempt === undefined ? 'kept' : 'exempt',
    why: goes ? ['no rule keeps it'] : why,
  };
}
