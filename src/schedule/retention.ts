/**
 * Which snapshots a schedule keeps: grandfathers, fathers, sons. Pure.
 *
 * Each rule cuts time into periods (calendar.ts), and keeps the oldest snapshot of each of the last periods that have one. The
 * oldest: it is nearest to the moment that the rule names, and it stays the one of its period whatever comes later, so a snapshot
 * that was chosen is kept until enough periods lie behind it. Periods without a snapshot do not count: nothing goes because nothing was made.
 *
 * Invariants: the answer depends on the snapshots and the rules alone, and thinning again changes nothing. What is not the
 * schedule's own does not count, and never goes; of its own, the one that was made last never goes, nor any that is protected.
 */

import type { Followed, RuleName } from './schedule.ts';

export interface Thinned {
  /** Milliseconds since 1970. */
  readonly created: number;
  /** Why it is none of the schedule's; undefined if it is one. */
  readonly foreign: string | undefined;
  /** Why it does not go now, though a rule may let it; undefined if it may. */
  readonly protected: string | undefined;
}

/** A snapshot's `rules` keep it for the periods that end at these moments. */
export interface Decision<T> {
  readonly of: T;
  readonly goes: boolean;
  readonly keptBy: readonly { readonly rule: RuleName; readonly periodEnd: number }[];
  /** What keeps it beside rules: it is foreign, protected, or `newest`. */
  readonly exempt: string | undefined;
}

/** Decides about snapshots in the order of their making. */
export function retain<T extends Thinned>(
  snapshots: readonly T[],
  rules: readonly Followed[],
): Decision<T>[] {
  const own = snapshots.filter((each) => each.foreign === undefined);
  const newest = own.at(-1);
  const keptBy = new Map<T, { rule: RuleName; periodEnd: number }[]>(own.map((each) => [each, []]));
  // Of two with the same time, the one that was made first: sorting keeps their order.
  const byAge = [...own].sort((a, b) => a.created - b.created);
  for (const { name: rule, keep, calendar } of rules) {
    const oldest = new Map<number, T>();
    for (const each of byAge) {
      const periodEnd = calendar.next(each.created);
      if (!oldest.has(periodEnd)) oldest.set(periodEnd, each);
    }
    const last = [...oldest].sort(([a], [b]) => a - b).slice(-keep);
    for (const [periodEnd, each] of last) keptBy.get(each)!.push({ rule, periodEnd });
  }
  return snapshots.map((of) => {
    const kept = keptBy.get(of) ?? [];
    const exempt = of.foreign ?? of.protected ?? (of === newest ? 'newest' : undefined);
    return { of, goes: kept.length === 0 && exempt === undefined, keptBy: kept, exempt };
  });
}
