/** Schedules over two years of a clock that a test moves: downtime, clocks that are set, daylight saving, stores that are full. */

import { expect, it } from 'vitest';
import { StoreError } from '../../src/base/errors.ts';
import { nextOf } from '../../src/schedule/due.ts';
import type { Snapshot, Volume } from '../../src/volume/catalog.ts';
import { Random } from '../support/random.ts';
import { rulesOf, scheduleOf } from '../schedule/rules.ts';
import { ScheduledRig, settled } from './scheduled-rig.ts';

const SEED = Number(process.env.SEED ?? Date.now() % 1e9);
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const YEARS = 2 * 365 * DAY;
const STEP_MS_MAX = 30 * MINUTE;

/** `jumps`: how far somebody sets the clock now and then, forward or back. */
interface Life {
  readonly what: string;
  readonly jumpMs: readonly number[];
  readonly timeZone: string;
}

const LIVES: readonly Life[] = [
  { what: 'a clock that is right, and daylight saving', jumpMs: [], timeZone: 'Europe/Berlin' },
  { what: 'a clock that is set a little', jumpMs: [-20 * MINUTE, 20 * MINUTE, -MINUTE], timeZone: 'UTC' },
  {
    what: 'a clock that is set by years',
    jumpMs: [-3 * HOUR, 3 * HOUR, 400 * DAY, -400 * DAY, -20 * MINUTE],
    timeZone: 'America/New_York',
  },
];

class Years {
  readonly rig = new ScheduledRig();
  readonly random: Random;
  readonly volume: Volume;
  readonly #life: Life;
  readonly #schedule;
  readonly rules;
  /** All that the schedule has made: when that was, by time that passes. */
  readonly made: { snapshot: Snapshot; passed: number }[] = [];
  /** Time passed when the clock was set, or set back, last; when serving began; and when there was room again. */
  #set = -1;
  #workingSince = 0;
  #servedFrom = 0;
  readonly #known = new Set<string>();
  readonly counts = { downtimes: 0, jumps: 0, full: 0, held: 0, late: 0 };
  jumpedBackMs = 0;

  constructor(life: Life, seed: number) {
    this.#life = life;
    this.random = new Random(seed);
    this.volume = this.rig.create('db');
    const { timeZone } = life;
    this.#schedule = scheduleOf({ hourly: 24, daily: 7, weekly: 4, monthly: 12 }, { timeZone });
    this.rules = rulesOf(this.#schedule);
  }

  async live(): Promise<void> {
    await this.rig.schedules.set('db', this.#schedule);
    this.rig.serve();
    await settled();
    const { clock } = this.rig;
    while (clock.passed < YEARS) {
      await clock.pass(MINUTE * (1 + this.random.below(STEP_MS_MAX / MINUTE)));
      this.#notice();
      if (this.random.below(100) === 0) await this.#something();
    }
    await this.rig.scheduler!.close();
  }

  /** Holds what was made since the last look against what should have been. */
  #notice(): void {
    const { clock, failures } = this.rig;
    for (const snapshot of this.volume.snapshots.values()) {
      if (snapshot.madeBy !== 'schedule' || this.#known.has(snapshot.uuid)) continue;
      this.#known.add(snapshot.uuid);
      this.#judge(snapshot);
      this.made.push({ snapshot, passed: clock.passed });
    }
    // Two hours and a day that is an hour longer are no reason to worry, nor is the pause behind a failure.
    const since = Math.max(this.#workingSince, this.#set, this.made.at(-1)?.passed ?? 0);
    const silentMs = clock.passed - since;
    if (failures.size === 0 && silentMs > 2 * HOUR + STEP_MS_MAX + HOUR)
      throw new Error(
        `nothing was made for ${silentMs / HOUR} hours, at ${new Date(clock.now()).toISOString()}`,
      );
  }

  #judge(snapshot: Snapshot): void {
    const before = this.made.at(-1);
    if (before === undefined) return;
    const { created } = before.snapshot;
    const isSetFar = this.#set >= before.passed && this.jumpedBackMs > 30 * MINUTE;
    if (!isSetFar && nextOf(this.rules, created) > snapshot.created)
      throw new Error(`${snapshot.name} was made though ${before.snapshot.name} was there already`);
    if (this.#servedFrom > before.passed) this.counts.late += 1;
    this.jumpedBackMs = 0;
  }

  async #something(): Promise<void> {
    const { rig, random, volume } = this;
    const { clock } = rig;
    const own = [...volume.snapshots.values()];
    const one = own.length === 0 ? undefined : random.pick(own);
    switch (random.below(9)) {
      case 0: {
        this.counts.downtimes += 1;
        await rig.scheduler!.close();
        await clock.pass(random.pick([MINUTE, HOUR, HOUR, DAY, DAY, 40 * DAY]) * random.below(4));
        rig.serve();
        [this.#workingSince, this.#servedFrom] = [clock.passed, clock.passed];
        await settled();
        break;
      }
      case 1:
      case 2: {
        if (this.#life.jumpMs.length === 0) break;
        const ms = random.pick(this.#life.jumpMs);
        this.counts.jumps += 1;
        clock.set(ms);
        this.#set = clock.passed;
        if (ms < 0) this.jumpedBackMs -= ms;
        break;
      }
      case 3:
        this.counts.full += 1;
        rig.failures.set('snapshot', new StoreError('NO_SPACE', 'it is full'));
        await clock.pass(random.below(5 * HOUR));
        rig.failures.clear();
        this.#workingSince = clock.passed;
        break;
      case 4:
        rig.snapshot(volume, `manual-${clock.passed}`);
        break;
      case 5: {
        if (one === undefined) break;
        this.counts.held += 1;
        const until = random.chance(50) ? null : clock.now() + random.below(30 * DAY);
        const [at, snapshot] = [clock.now(), one.uuid];
        rig.apply({ op: 'hold', at, snapshot, owner: 'who', reason: null, until });
        break;
      }
      case 6:
        for (const { uuid, holds } of own)
          if (holds.length > 0 && random.chance(70))
            rig.apply({ op: 'release', at: clock.now(), snapshot: uuid, owner: 'who' });
        break;
      case 7:
        rig.inUse.clear();
        if (one !== undefined) rig.inUse.add(one.uuid);
        break;
      default:
        if (one === undefined) break;
        if (random.chance(30))
          rig.apply({ op: 'priority', at: clock.now(), snapshot: one.uuid, priority: 127 });
        else await rig.schedules.prune({ dryRun: random.chance(50) });
        break;
    }
    this.#notice();
  }
}

it.each(LIVES)(`two years of $what (SEED=${SEED})`, async (life) => {
  const years = new Years(life, SEED);
  await years.live();
  const { rig, made, counts, volume, rules } = years;
  expect(rig.wrongs).toEqual([]);
  expect(made.length).toBeGreaterThan(3000);
  expect(Math.min(counts.downtimes, counts.full, counts.held, counts.late)).toBeGreaterThan(5);
  expect(rig.gone.length).toBeGreaterThan(2000);
  // No more is left than rules keep, but for what is protected.
  const kept = [...volume.snapshots.values()].filter(
    ({ madeBy, holds, priority, uuid }) =>
      madeBy === 'schedule' && holds.length === 0 && priority !== 127 && !rig.inUse.has(uuid),
  );
  await rig.schedules.prune({ dryRun: false });
  expect(kept.length).toBeLessThanOrEqual(24 + 7 + 4 + 12 + 1 + 1);
  if (life.jumpMs.length > 0) {
    expect(counts.jumps).toBeGreaterThan(5);
    return;
  }
  // With a clock that is right, the first of each of the last periods in which any was made is still there.
  for (const { calendar, keep, name } of rules) {
    const first = new Map<number, Snapshot>();
    for (const { snapshot } of made) {
      const end = calendar.next(snapshot.created);
      if (!first.has(end)) first.set(end, snapshot);
    }
    for (const snapshot of [...first.values()].slice(-keep))
      expect(volume.snapshots.get(snapshot.name), `${name}: ${snapshot.name}`).toBe(snapshot);
  }
});
