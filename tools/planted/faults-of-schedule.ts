/** Planted bugs of schedules: snapshots made twice, too late or never, and what thinning must leave alone. */

import { type Fault, inCli, inRepair, inSchedule, inServer, inVolume } from './fault.ts';

const YEARS = inServer('scheduler-years');
const SCHEDULER = inServer('scheduler');
const HOOK = inServer('hook');
const RETENTION = inSchedule('retention');
const SCHEDULES = inVolume('schedules');

export const SCHEDULE_FAULTS: readonly Fault[] = [
  {
    name: 'a manual snapshot is thinned',
    file: 'src/volume/schedules.ts',
    text: "if (madeBy === null) return 'manual';",
    replacement: 'if (madeBy === null) return undefined;',
    tests: [SCHEDULES, YEARS],
  },
  {
    name: 'what a rollback saved is thinned',
    file: 'src/volume/schedules.ts',
    text: "if (isAutomatic) return 'automatic';",
    replacement: 'if (isAutomatic) return undefined;',
    tests: [SCHEDULES],
  },
  {
    name: 'what a target needs is thinned where it was made',
    file: 'src/volume/schedules.ts',
    text: "return madeBy === 'schedule' || (volume.isReplica && origin !== null) ? undefined",
    replacement: 'return madeBy !== null ? undefined',
    tests: [SCHEDULES],
  },
  {
    name: 'a held snapshot is thinned',
    file: 'src/volume/schedules.ts',
    text: 'if (hold !== undefined) return',
    replacement: 'if (hold !== undefined && hold.until !== null) return',
    tests: [SCHEDULES, YEARS],
  },
  {
    name: 'a snapshot that somebody reads is thinned, and the reader cut off',
    file: 'src/volume/schedules.ts',
    text: "if (this.#needs.disks.attachedTo(snapshot) > 0) return 'in use';",
    replacement: '',
    tests: [YEARS, SCHEDULES],
  },
  {
    name: 'a snapshot that never goes is thinned',
    file: 'src/volume/schedules.ts',
    text: 'return snapshot.priority === PRIORITY_MAX ?',
    replacement: 'return snapshot.priority > PRIORITY_MAX ?',
    tests: [SCHEDULES, YEARS],
  },
  {
    name: 'what goes is decided before its turn, and a hold that comes meanwhile does not count',
    file: 'src/volume/schedules.ts',
    text: `    if (going().length === 0) return [];
    const gone = await fence.run(going, false, async (isFenced) => {
      const snapshots = going();`,
    replacement: `    const decided = going();
    if (decided.length === 0) return [];
    const gone = await fence.run(() => decided, false, async (isFenced) => {
      const snapshots = decided;`,
    tests: [SCHEDULES],
  },
  {
    name: 'one change deletes more than fits into an entry of the log',
    file: 'src/volume/schedules.ts',
    text: 'return snapshots.slice(0, THINNED_MAX).map(({ of }) => of.snapshot);',
    replacement: 'return snapshots.slice(0, THINNED_MAX - 1).map(({ of }) => of.snapshot);',
    tests: [SCHEDULES],
  },
  {
    name: 'the newest snapshot is thinned',
    file: 'src/schedule/retention.ts',
    text: "(of === newest ? 'newest' : undefined)",
    replacement: "(of === newest && keptBy.size === 0 ? 'newest' : undefined)",
    tests: [RETENTION, YEARS],
  },
  {
    name: 'the newest is the one with the latest time, though the clock was ahead',
    file: 'src/schedule/retention.ts',
    text: 'const newest = own.at(-1);',
    replacement: 'const newest = [...own].sort((a, b) => a.created - b.created).at(-1);',
    tests: [RETENTION, YEARS],
  },
  {
    name: 'the newest of a period is kept in the place of the oldest',
    file: 'src/schedule/retention.ts',
    text: 'if (!oldest.has(periodEnd)) oldest.set(periodEnd, each);',
    replacement: 'oldest.set(periodEnd, each);',
    tests: [RETENTION, YEARS],
  },
  {
    name: 'a rule keeps the first periods, not the last ones',
    file: 'src/schedule/retention.ts',
    text: '.slice(-keep);',
    replacement: '.slice(0, keep);',
    tests: [RETENTION, YEARS],
  },
  {
    name: 'what is protected does not count, so that letting it go changes what is kept',
    file: 'src/schedule/retention.ts',
    text: 'const own = snapshots.filter((each) => each.foreign === undefined);',
    replacement:
      'const own = snapshots.filter((each) => each.foreign === undefined && each.protected === undefined);',
    tests: [RETENTION],
  },
  {
    name: 'twenty late snapshots are made behind downtime',
    file: 'src/volume/schedules.ts',
    text: "await writer.append({ op: 'snapshot', at: clock.now(), by: 'schedule', cuts: [cut] });",
    replacement:
      "await writer.append({ op: 'snapshot', at: Math.min(clock.now(), scheduled(volume, volume.schedule, clock.now()).last + 3_600_000), by: 'schedule', cuts: [cut] });",
    tests: [SCHEDULER, YEARS],
  },
  {
    name: 'a snapshot is made again when the clock is set back',
    file: 'src/schedule/due.ts',
    text: 'nextOf(rules, nextOf(rules, now)));',
    replacement: 'nextOf(rules, now));',
    tests: [inSchedule('due'), SCHEDULER, YEARS],
  },
  {
    name: 'a clock that was a year ahead ends snapshots for a year',
    file: 'src/schedule/due.ts',
    text: 'return Math.min(planned, nextOf(rules, last), nextOf(rules, nextOf(rules, now)));',
    replacement: 'return Math.min(planned, nextOf(rules, last));',
    tests: [inSchedule('due'), SCHEDULER, YEARS],
  },
  {
    name: 'what is due is put off while time goes on',
    file: 'src/server/scheduler.ts',
    text: 'const before = progress.planned === stateOf(volume) ? progress.due : Infinity;',
    replacement: 'const before = Infinity;',
    tests: [YEARS, SCHEDULER],
  },
  {
    name: 'a schedule that was set by a clock that was ahead counts from then',
    file: 'src/volume/schedules.ts',
    text: 'Math.max(Math.min(schedule.since, now), newest?.created ?? 0)',
    replacement: 'Math.max(schedule.since, newest?.created ?? 0)',
    tests: [SCHEDULER],
  },
  {
    name: 'a moment begins the period before it',
    file: 'src/schedule/calendar.ts',
    text: 'if (this.#stretches[middle]!.end > after) high = middle;',
    replacement: 'if (this.#stretches[middle]!.end >= after) high = middle;',
    tests: [inSchedule('calendar')],
  },
  {
    name: 'what a calendar knows reaches back to where it was not asked',
    file: 'src/schedule/calendar.ts',
    text: 'if (known !== undefined && known.from <= after) return known.end;',
    replacement: 'if (known !== undefined && known.end > after) return known.end;',
    tests: [inSchedule('calendar')],
  },
  {
    name: 'a question mark in a pattern is this moment',
    file: 'src/schedule/calendar.ts',
    text: '/^[^\\s?]+( [^\\s?]+){4}$/',
    replacement: '/^[^\\s]+( [^\\s]+){4}$/',
    tests: [inSchedule('calendar')],
  },
  {
    name: 'the failure of one volume ends the work for all',
    file: 'src/server/scheduler.ts',
    text: '        this.#failed(volume, progress, task, error);\n      } finally {',
    replacement: '        this.#stopping.abort();\n      } finally {',
    tests: [SCHEDULER],
  },
  {
    name: 'what fails is tried again without a growing pause',
    file: 'src/server/scheduler.ts',
    text: 'const pause = Math.min(RETRY_MS_FIRST * 2 ** progress.failures, RETRY_MS_MAX);',
    replacement: 'const pause = Math.min(RETRY_MS_FIRST, RETRY_MS_MAX);',
    tests: [SCHEDULER],
  },
  {
    name: 'a snapshot is made though the guest was not frozen',
    file: 'src/server/scheduler.ts',
    text: "      await run(hookBefore, 'before');\n      await schedules.take(uuid, snapshot);",
    replacement:
      "      await run(hookBefore, 'before').catch(() => undefined);\n      await schedules.take(uuid, snapshot);",
    tests: [SCHEDULER],
  },
  {
    name: 'a guest stays frozen when there is no snapshot',
    file: 'src/server/scheduler.ts',
    text: "      await run(hookAfter, 'after');",
    replacement: "      if (failure === undefined) await run(hookAfter, 'after');",
    tests: [SCHEDULER],
  },
  {
    name: 'all volumes that are due are worked on at once',
    file: 'src/server/scheduler.ts',
    text: 'progress.running === undefined && this.#running < TASKS_MAX)',
    replacement: 'progress.running === undefined)',
    tests: [SCHEDULER],
  },
  {
    name: 'a server that stops does not wait for what is under way',
    file: 'src/server/scheduler.ts',
    text: 'for (const { running } of this.#progress.values()) await running;',
    replacement: '',
    tests: [SCHEDULER],
  },
  {
    name: 'a hook that hangs is not killed',
    file: 'src/server/hook.ts',
    text: "timers.push(clock.after(HOOK_MS_MAX, () => resolve(kill(child, 'late'))));",
    replacement: "timers.push(clock.after(HOOK_MS_MAX, () => resolve('late')));",
    tests: [HOOK],
  },
  {
    name: 'a hook leaves behind what it has started',
    file: 'src/server/hook.ts',
    text: 'process.kill(-child.pid!,',
    replacement: 'process.kill(child.pid!,',
    tests: [HOOK],
  },
  {
    name: 'a stop kills the command that thaws',
    file: 'src/server/hook.ts',
    text: "if (when === 'after') timers.push(",
    replacement: "if (when !== 'after' && when !== 'before') timers.push(",
    tests: [HOOK],
  },
  {
    name: 'a replica makes snapshots',
    file: 'src/server/scheduler.ts',
    text: '    if (!volume.isReplica) {',
    replacement: '    {',
    tests: [SCHEDULER],
  },
  {
    name: 'a replica is not thinned behind what it receives',
    file: 'src/server/scheduler.ts',
    text: 'return JSON.stringify([schedule, newest?.uuid, isReplica]);',
    replacement: 'return JSON.stringify([schedule, isReplica ? 0 : newest?.uuid, isReplica]);',
    tests: [SCHEDULER],
  },
  {
    name: 'a server that only reads makes snapshots',
    file: 'src/cli/serving.ts',
    text: 'store instanceof Store ? new Scheduler({ store, logger }) : undefined;',
    replacement: 'new Scheduler({ store: store as Store, logger });',
    tests: [inCli('schedule')],
  },
  {
    name: 'a catalog in the log has no schedules',
    file: 'src/volume/catalog-parts.ts',
    text: 'if (version.schedule !== null) part.schedule = version.schedule;',
    replacement: '',
    tests: [inVolume('catalog'), SCHEDULES],
  },
  {
    name: 'a schedule is set anew by whoever sets it as it is',
    file: 'src/volume/schedules.ts',
    text: 'if (!isSame(found.schedule, schedule))',
    replacement: 'if (found.schedule !== schedule)',
    tests: [SCHEDULES],
  },
  {
    name: 'a repair keeps a schedule that is none',
    file: 'src/repair/catalog-mending.ts',
    text: '    delete volume.schedule;\n',
    replacement: '',
    tests: [inRepair('catalog-mending')],
  },
];
