/**
 * Metadata contexts: which ones an export has, and which of them a client means. Pure.
 *
 *     base:allocation                   0 stored, 3 not stored and zeros (NBD_STATE_HOLE, NBD_STATE_ZERO)
 *     qemu:allocation-depth             0 nowhere, 1 in this version itself, 2 inherited
 *     coppice:changed-since:SNAPSHOT    0 the same as there, 1 it differs, 3 it differs and reads as zeros now
 *     qemu:dirty-bitmap:SNAPSHOT        the same extents under a name that clients know: 0 or 1
 *
 * SNAPSHOT is a snapshot of the export's own volume, or with an `@` the full name of any, such as the one that a clone
 * began as. A query that ends with a colon is a wildcard: it lists what begins with it, and selects nothing.
 */

import { StoreError } from '../base/errors.ts';

export const BASE_ALLOCATION = 'base:allocation';
const ALLOCATION_DEPTH = 'qemu:allocation-depth';
/** What stands before the name of a snapshot. */
const CHANGED_SINCE = 'coppice:changed-since:';
const DIRTY_BITMAP = 'qemu:dirty-bitmap:';
/** Namespaces and other beginnings that are wildcards. */
const WILDCARDS = new Set(['base:', 'qemu:', 'coppice:', CHANGED_SINCE, DIRTY_BITMAP]);

/** Contexts that a client may select for one connection. */
export const CONTEXTS_MAX = 16;
/** Snapshots that a wildcard names one by one; of a volume with more, it names the wildcard. */
const LISTED_SNAPSHOTS_MAX = 512;

export type ContextKind = 'allocation' | 'depth' | 'changes' | 'bitmap';

/** A context by its name. */
export interface ContextName {
  readonly name: string;
  readonly kind: ContextKind;
  /** The export that changes are counted from; empty for other kinds. */
  readonly since: string;
}

/** The context that `query` names exactly; undefined if it is none of ours, or a wildcard. */
function contextNamed(query: string, exportName: string): ContextName | undefined {
  if (query === BASE_ALLOCATION) return { name: query, kind: 'allocation', since: '' };
  if (query === ALLOCATION_DEPTH) return { name: query, kind: 'depth', since: '' };
  if (WILDCARDS.has(query)) return undefined;
  if (query.startsWith(CHANGED_SINCE))
    return { name: query, kind: 'changes', since: sinceOf(query.slice(CHANGED_SINCE.length), exportName) };
  if (query.startsWith(DIRTY_BITMAP))
    return { name: query, kind: 'bitmap', since: sinceOf(query.slice(DIRTY_BITMAP.length), exportName) };
  return undefined;
}

function sinceOf(snapshot: string, exportName: string): string {
  return snapshot.includes('@') ? snapshot : `${exportName.split('@')[0]}@${snapshot}`;
}

/** @throws INVALID_ARGUMENT unless there is a namespace and a colon */
function requireNamespace(query: string): void {
  if (query.indexOf(':') < 1)
    throw new StoreError('INVALID_ARGUMENT', 'a query begins with a namespace and a colon');
}

/**
 * The contexts that queries select, each once, in their order. `exists` says whether there is an export of a name.
 * @throws INVALID_ARGUMENT (no namespace), NO_SPACE (more than CONTEXTS_MAX)
 */
export function selectContexts(
  queries: readonly string[],
  exportName: string,
  exists: (name: string) => boolean,
): ContextName[] {
  const selected = new Map<string, ContextName>();
  for (const query of queries) {
    requireNamespace(query);
    const context = contextNamed(query, exportName);
    if (context === undefined || selected.has(context.name)) continue;
    if (context.since !== '' && !exists(context.since)) continue;
    if (selected.size === CONTEXTS_MAX) throw new StoreError('NO_SPACE', 'too many metadata contexts');
    selected.set(context.name, context);
  }
  return [...selected.values()];
}

/**
 * The names that queries list; all of them if there is no query. `names` are those of all exports.
 * @throws INVALID_ARGUMENT (no namespace)
 */
export function listContexts(
  queries: readonly string[],
  exportName: string,
  names: readonly string[],
): string[] {
  for (const query of queries) requireNamespace(query);
  const wanted = new Set(queries);
  const all = wanted.size === 0;
  const matches = (name: string): boolean => all || wanted.has(name) || wanted.has(`${name.split(':')[0]}:`);
  const listed = [BASE_ALLOCATION, ALLOCATION_DEPTH].filter(matches);
  const ofVolume = `${exportName.split('@')[0]}@`;
  const snapshots = names.filter((name) => name.startsWith(ofVolume) && name !== exportName);
  for (const beginning of [CHANGED_SINCE, DIRTY_BITMAP]) {
    if (!matches(beginning)) continue;
    if (snapshots.length > LISTED_SNAPSHOTS_MAX) listed.push(beginning);
    else for (const name of snapshots) listed.push(beginning + name.slice(ofVolume.length));
  }
  const known = new Set(listed);
  for (const query of wanted) {
    const context = known.has(query) ? undefined : contextNamed(query, exportName);
    if (context !== undefined && names.includes(context.since)) listed.push(query);
  }
  return listed;
}
