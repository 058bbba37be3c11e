/**
 * The commands that are one request and one answer: create, snapshot, clone, list, tree, show, status. No storage
 * logic: names and sizes are judged by the store.
 */

import type { Door } from '../server/door.ts';
import type { HoldSummary, StoreStatus, VersionSummary, VersionWithSpace } from '../volume/summary.ts';
import { feedRows } from './feed-commands.ts';
import type { Output } from './output.ts';
import { statusOfSchedules } from './schedule-drawing.ts';
import { formatSize } from './size.ts';
import { drawFields, drawTable } from './table.ts';
import { drawTree, growTree } from './version-tree.ts';

export async function createVolume(
  door: Door,
  output: Output,
  name: string,
  sizeBytes: number,
): Promise<void> {
  const volume = await door.create(name, sizeBytes);
  output.print(volume, () => `created volume ${volume.name}, ${formatSize(volume.size)}\n`);
}

export async function takeSnapshot(door: Door, output: Output, names: readonly string[]): Promise<void> {
  const snapshots = await door.snapshot(names);
  output.print(snapshots, () => snapshots.map(({ name }) => `took snapshot ${name}\n`).join(''));
}

export async function cloneSnapshot(door: Door, output: Output, source: string, name: string): Promise<void> {
  const volume = await door.clone(source, name);
  output.print(volume, () => `created volume ${volume.name} as a clone of ${source}\n`);
}

export async function listVersions(door: Door, output: Output): Promise<void> {
  const versions = await door.listWithSpace({});
  output.print(versions.map(listed), () => drawList(versions));
}

export async function showTree(door: Door, output: Output, ghosts: boolean): Promise<void> {
  const roots = growTree(await door.listWithSpace({ ghosts }));
  output.print(roots, () => (roots.length === 0 ? NO_VOLUME : drawTree(roots)));
}

export async function showVersion(door: Door, output: Output, name: string): Promise<void> {
  const version = await door.show(name);
  const { referenced, exclusive, shared } = (await door.space([name])).versions[0]!;
  output.print({ ...version, referenced, exclusive, shared }, () =>
    drawFields([
      ['name', version.name],
      ['kind', kindOf(version)],
      ['size', exactSize(version.size)],
      ['referenced', exactSize(referenced)],
      ['exclusive', exactSize(exclusive)],
      ['shared', exactSize(shared)],
      ['created', version.created],
      ['parent', version.parent ?? 'none'],
      ['uuid', version.uuid],
      ...(version.origin === null ? [] : [['origin', version.origin] as const]),
      ...(version.kind === 'snapshot' ? [['priority', String(version.priority)] as const] : []),
      ...version.holds.map((hold) => ['held by', drawHold(hold)] as const),
    ]),
  );
}

function kindOf({ kind, automatic, madeBy, replica }: VersionSummary): string {
  if (replica) return `${kind}, a replica: it is only read`;
  if (madeBy !== null) return `${kind}, made by a ${madeBy}`;
  return automatic ? `${kind}, made by a rollback or a demotion` : kind;
}

function drawHold({ owner, reason, until }: HoldSummary): string {
  return `${owner}${reason === null ? '' : `, ${reason}`}${until === null ? '' : `, until ${until}`}`;
}

export async function showStatus(door: Door, output: Output): Promise<void> {
  const status = await door.status();
  output.print(status, () => drawStatus(status));
}

const NO_VOLUME = 'no volume yet; create one with: coppice create disk --size 20G\n';

/** The fields that `list --json` promises, in their order. */
function listed(version: VersionWithSpace): VersionWithSpace {
  const { name, kind, uuid, size, created, parent, automatic, priority, holds, origin, replica } = version;
  const { madeBy } = version;
  const { referenced, exclusive, shared } = version;
  return {
    name,
    kind,
    uuid,
    size,
    created,
    parent,
    referenced,
    exclusive,
    shared,
    automatic,
    priority,
    holds,
    origin,
    replica,
    madeBy,
  };
}

function drawList(versions: readonly VersionWithSpace[]): string {
  if (versions.length === 0) return NO_VOLUME;
  return drawTable(
    ['NAME', 'KIND', 'SIZE', 'REFERENCED', 'EXCLUSIVE', 'CREATED', 'PARENT', 'NOTES'],
    versions.map((version) => [
      version.name,
      version.kind,
      formatSize(version.size),
      formatSize(version.referenced),
      formatSize(version.exclusive),
      version.created,
      version.parent ?? '-',
      notesOn(version),
    ]),
  );
}

function notesOn({ replica, automatic, madeBy, priority, holds }: VersionSummary): string {
  const notes: string[] = [];
  if (replica) notes.push('replica');
  if (automatic) notes.push('automatic');
  if (madeBy !== null) notes.push(`by ${madeBy}`);
  if (priority !== 0) notes.push(`priority ${priority}`);
  if (holds.length > 0) notes.push(`held by ${holds.map(({ owner }) => owner).join(', ')}`);
  return notes.join(', ');
}

const STATES: Record<StoreStatus['state'], string> = {
  open: 'open',
  poisoned: 'poisoned: a sync failed; reads only until it is reopened',
  'read-only': 'read-only: nothing is written to it',
};

function drawStatus(status: StoreStatus): string {
  const { owner, lastCheckpoint, cache } = status;
  const who = owner.pid === process.pid ? 'this command: no server is running' : `process ${owner.pid}`;
  return drawFields([
    ['store', status.uuid],
    ['state', STATES[status.state]],
    ...status.damage.map(({ message, code }) => ['damage', `${message} [${code}]`] as const),
    ['owner', owner.pid === process.pid ? who : `${who} since ${owner.since}`],
    ['format revision', String(status.formatRevision)],
    ['volumes', String(status.volumes)],
    ['snapshots', String(status.snapshots)],
    ...(status.deleting > 0 ? [['being deleted', String(status.deleting)] as const] : []),
    ['log', exactSize(status.logBytes)],
    ['live', exactSize(status.liveBytes)],
    ['room', drawRoom(status.room)],
    ['compaction', drawCompaction(status.compaction)],
    ...drawScrub(status.scrub),
    ...statusOfSchedules(status.schedules),
    ...feedRows(status.feeds),
    ['segments', `${status.segments} of at most ${formatSize(status.segmentBytes)}`],
    [
      'capacity',
      status.capacityBytes === null ? 'as large as the file system' : exactSize(status.capacityBytes),
    ],
    [
      'last checkpoint',
      `number ${lastCheckpoint.generation}, ${lastCheckpoint.at ?? 'none since it was opened'}`,
    ],
    ['cache', `${formatSize(cache.usedBytes)} of ${formatSize(cache.boundBytes)}`],
  ]);
}

function drawRoom({ state, freeBytes }: StoreStatus['room']): string {
  const free = `${formatSize(freeBytes)} left`;
  if (state === 'enough') return free;
  const help = 'delete snapshots (`coppice du` says what that gives back), or give it more room';
  return state === 'low' ? `low: ${free}; ${help}` : `full: ${free}, writes get no space; ${help}`;
}

function drawCompaction({ state, rounds, movedBytes, freedBytes }: StoreStatus['compaction']): string {
  if (rounds === 0) return state;
  return `${state}; ${rounds} rounds copied ${formatSize(movedBytes)} and gave ${formatSize(freedBytes)} back`;
}

/** Nothing where there has been none since the store was opened. */
function drawScrub({ state, readBytes, totalBytes, last }: StoreStatus['scrub']): [string, string][] {
  const rows: [string, string][] = [];
  if (state === 'running')
    rows.push(['scrub', `running: ${formatSize(readBytes)} of ${formatSize(totalBytes)} read`]);
  if (last !== null) {
    const found = last.damage === 0 ? 'clean' : `${last.damage} finding${last.damage === 1 ? '' : 's'}`;
    const read = `${formatSize(last.readBytes)} read, ${found}`;
    rows.push(['last scrub', `${last.at}: ${read}${last.isWhole ? '' : '; it was stopped before its end'}`]);
  }
  return rows;
}

function exactSize(bytes: number): string {
  return bytes < 1024 ? formatSize(bytes) : `${formatSize(bytes)} (${bytes} bytes)`;
}
