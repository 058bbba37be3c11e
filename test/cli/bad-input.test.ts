/**
 * Bad input, as the child process that users run: one clear sentence, its exit code, and nothing changed. The same
 * whether a server has the store or nobody.
 */

import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { temporaryDirectory } from '../server/served.ts';
import { ok, run, Running, MAIN, serve, stop } from './command.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const directory = temporaryDirectory();
const store = path.join(directory, 'store');

beforeAll(async () => {
  await ok(store, ['init']);
  await ok(store, ['create', 'disk', '--size', '1M']);
  await ok(store, ['snapshot', 'disk@a']);
  await ok(store, ['hold', 'disk@a', '--owner', 'backup']);
  fs.writeFileSync(path.join(directory, 'small.raw'), Buffer.alloc(512, 1));
  fs.writeFileSync(path.join(directory, 'large.raw'), Buffer.alloc(2 ** 20 + 1, 1));
  fs.writeFileSync(path.join(directory, 'empty.raw'), '');
});
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

const name129 = 'n'.repeat(129);

/** What is typed, the exit code, and words that the sentence must have. */
const REFUSED: [args: string[], code: number, words: RegExp][] = [
  // Unknown names.
  [['show', 'nobody'], 1, /nobody.*coppice list/],
  [['show', 'disk@nothing'], 1, /disk@nothing|nothing/],
  [['snapshot', 'nobody@a'], 1, /nobody/],
  [['clone', 'disk@nothing', 'copy'], 1, /nothing/],
  [['export', 'nobody', 'out.raw'], 1, /nobody/],
  [['export', 'disk@nothing', '-'], 1, /nothing/],
  // Names that are none.
  [['create', '', '--size', '1M'], 2, /A-Z a-z 0-9/],
  [['create', 'a b', '--size', '1M'], 2, /A-Z a-z 0-9/],
  [['create', 'a/b', '--size', '1M'], 2, /A-Z a-z 0-9/],
  [['create', 'a@b', '--size', '1M'], 2, /A-Z a-z 0-9/],
  [['create', 'ü', '--size', '1M'], 2, /A-Z a-z 0-9/],
  [['create', name129, '--size', '1M'], 2, /128/],
  [['snapshot', 'disk'], 2, /VOLUME@NAME/],
  [['snapshot', 'disk@'], 2, /A-Z a-z 0-9/],
  [['snapshot', 'disk@a@b'], 2, /A-Z a-z 0-9/],
  [['snapshot', 'disk@b', 'disk@c'], 2, /once/],
  [['clone', 'disk', 'copy'], 2, /VOLUME@NAME/],
  [['clone', 'disk@a', 'a:b'], 2, /A-Z a-z 0-9/],
  [['import', 'a b', 'small.raw'], 2, /A-Z a-z 0-9/],
  [['import', 'disk@a', 'small.raw', '--force'], 2, /snapshot/],
  // Limits of a server.
  [['serve', '--limit', 'connections'], 2, /NAME=VALUE.*handshake-time/],
  [['serve', '--limit', '=1'], 2, /NAME=VALUE/],
  [['serve', '--limit', 'toString=1'], 2, /NAME=VALUE/],
  [['serve', '--limit', 'connections='], 2, /connections.*1 to 65536/],
  [['serve', '--limit', 'connections=1.5'], 2, /connections.*1 to 65536/],
  [['serve', '--limit', 'request=1K'], 2, /request.*1048576/],
  [['serve', '--limit', 'connection-memory=16M'], 2, /less than one request/],
  [['serve', '--limit', 'memory=32M'], 2, /less than two requests/],
  // What is offered to whom.
  [['serve', '--export', 'disk,other'], 2, /"disk,other" can match no export/],
  [['serve', '--export', ''], 2, /--export.*can match no export/],
  [['serve', '--access', 'nowhere.json'], 1, /access rules in nowhere\.json/],
  [['serve', '--access', 'small.raw'], 2, /access rules in small\.raw.*JSON/],
  [['serve', '--listen', '10809'], 2, /HOST:PORT/],
  // Schedules that cannot be.
  [['schedule', 'nobody', '--daily', '7'], 1, /nobody/],
  [['schedule', 'nobody'], 1, /nobody/],
  [['schedule', 'disk@a', '--daily', '7'], 2, /only volumes/],
  [['schedule', 'disk', '--daily', '0'], 2, /1 to 10000/],
  [['schedule', 'disk', '--daily', '10001'], 2, /1 to 10000/],
  [['schedule', 'disk', '--daily', 'many'], 2, /--daily.*no number/],
  [['schedule', 'disk', '--custom', '0 * * * *'], 2, /--keep go together/],
  [['schedule', 'disk', '--keep', '7'], 2, /--keep go together/],
  [['schedule', 'disk', '--custom', '0 0 30 2 *', '--keep', '7'], 2, /never comes/],
  [['schedule', 'disk', '--custom', 'noon', '--keep', '7'], 2, /five fields/],
  [['schedule', 'disk', '--daily', '7', '--time-zone', 'Berlin'], 2, /no time zone.*Europe\/Berlin/],
  [['schedule', 'disk', '--time-zone', 'UTC'], 2, /needs a rule/],
  [['schedule', 'disk', '--daily', '7', '--hook-before', ''], 2, /hook is a command/],
  [['schedule', 'disk', '--daily', '7', '--off'], 2, /end it with --off/],
  [['schedule', 'disk', '--list'], 2, /leave the name out/],
  [['schedule', '--daily', '7'], 2, /name the volume/],
  [['prune', 'disk'], 2, /disk has no schedule; give it one/],
  [['prune', 'nobody', '--dry-run'], 1, /nobody/],
  // Sizes that are none.
  [['create', 'new', '--size', '0'], 2, /zero/],
  [['create', 'new', '--size', '-1G'], 2, /negative/],
  [['create', 'new', '--size=-1G'], 2, /negative/],
  [['create', 'new', '--size', '1000'], 2, /multiple of 512/],
  [['create', 'new', '--size', '1.1G'], 2, /512-byte sectors/],
  [['create', 'new', '--size', '65T'], 2, /64 TiB/],
  [['create', 'new', '--size', '99999999999T'], 2, /absurd/],
  [['create', 'new', '--size', 'big'], 2, /20G, 512MiB/],
  [['create', 'new', '--size', ''], 2, /20G, 512MiB/],
  [['create', 'new'], 2, /--size/],
  // Names that exist.
  [['create', 'disk', '--size', '1M'], 1, /already/],
  [['snapshot', 'disk@a'], 1, /already/],
  [['clone', 'disk@a', 'disk'], 1, /already/],
  [['import', 'disk', 'small.raw'], 1, /--force/],
  [['rename', 'disk@a', 'disk@a@b'], 2, /A-Z a-z 0-9/],
  // What is protected, or not there to be taken away.
  [['delete', 'nobody'], 1, /nobody.*coppice list/],
  [['delete', 'disk@nothing'], 1, /disk@nothing/],
  [['delete', 'disk'], 1, /disk@a; .*--recursive/],
  [['delete', 'disk@a'], 1, /disk@a by backup; nothing was deleted/],
  [['delete', 'disk', '--recursive', '--force'], 1, /disk@a by backup; nothing was deleted/],
  [['rollback', 'disk'], 2, /VOLUME@NAME/],
  [['rollback', 'disk@nothing'], 1, /disk@nothing/],
  [['resize', 'disk'], 2, /resize VOLUME SIZE/],
  [['resize', 'disk', '1M', '--size', '1M'], 2, /once/],
  [['resize', 'disk', 'large'], 2, /20G, 512MiB/],
  [['resize', 'disk', '1000'], 2, /multiple of 512/],
  [['resize', 'disk', '-1G'], 2, /-1G.*--help/],
  [['resize', 'disk', '512K'], 2, /--shrink/],
  [['resize', 'disk@a', '2M'], 2, /snapshot/],
  // Holds and priorities.
  [['hold', 'disk', '--owner', 'me'], 2, /VOLUME@NAME/],
  [['hold', 'disk@nothing', '--owner', 'me'], 1, /disk@nothing/],
  [['hold', 'disk@a'], 2, /--owner.*--help/],
  [['hold', 'disk@a', '--owner', ''], 2, /1 to 128 printable/],
  [['hold', 'disk@a', '--owner', 'me', '--reason', 'two\nlines'], 2, /printable/],
  [['hold', 'disk@a', '--owner', 'me', '--until', '2020-01-01'], 2, /in the future/],
  [['hold', 'disk@a', '--owner', 'me', '--until', '0s'], 2, /in the future/],
  [['hold', 'disk@a', '--owner', 'me', '--until', 'soon'], 2, /2027-01-31.*12h/],
  [['release', 'disk@a', '--owner', 'me'], 1, /"me" does not hold disk@a; held by "backup"/],
  [['release', 'disk@a'], 2, /--owner.*--help/],
  [['priority', 'disk@a', '-129'], 2, /-128 to 127/],
  [['priority', 'disk@a', '128'], 2, /-128 to 127/],
  [['priority', 'disk@a', 'high'], 2, /-128 to 127/],
  [['priority', 'disk@a', '1.5'], 2, /-128 to 127/],
  [['priority', 'disk', '5'], 2, /VOLUME@NAME/],
  // Questions about versions.
  [['diff', 'disk@a', 'nobody'], 1, /nobody/],
  [['diff', 'disk@nothing', 'disk'], 1, /nothing/],
  [['diff', 'disk'], 2, /to.*--help/],
  [['du', 'disk', 'nobody'], 1, /nobody/],
  // Looking into files.
  [['dump', 'frobnicate'], 2, /no dump of "frobnicate"; ask for superblock, segments/],
  [['dump', 'superblock', 'surplus'], 2, /--help/],
  [['dump', 'records'], 2, /--segment.*--help/],
  [['dump', 'records', '--segment', '0'], 2, /--segment is "0"; give a number from 1 to/],
  [['dump', 'records', '--segment', '-1'], 2, /--segment is "-1"/],
  [['dump', 'records', '--segment', 'one'], 2, /--segment is "one"/],
  [['dump', 'entries', '--segment', '1', '--offset', '4K'], 2, /--offset is "4K"/],
  [['dump', 'pointers', '--chunk', '0'], 2, /volume.*--help/],
  [['dump', 'pointers', 'disk'], 2, /--chunk.*--help/],
  [['dump', 'pointers', 'disk', '--chunk', '1.5'], 2, /--chunk is "1.5"/],
  [['dump', 'pointers', 'disk', '--chunk', '99999999999'], 2, /--chunk is "99999999999"/],
  [['dump', 'pointers', 'disk', '--chunk', '0', '--count', '0'], 2, /--count is "0"/],
  [['rebuild-index', 'surplus'], 2, /--help/],
  // Images.
  [['import', 'new', 'missing.raw'], 1, /missing\.raw.*check/],
  [['import', 'new', 'empty.raw'], 2, /empty/],
  [['import', 'new', '.'], 2, /directory/],
  [['import', 'new', '-'], 2, /--size/],
  [['import', 'new', 'large.raw', '--size', '1M'], 2, /nothing was changed/],
  [['import', 'disk', 'large.raw', '--force'], 2, /nothing was changed/],
  [['import', 'disk', 'small.raw', '--force', '--size', '2M'], 2, /leave --size out/],
  [['export', 'disk', '.'], 2, /no regular file/],
  [['export', 'disk', '/dev/null'], 2, /no regular file/],
  [['export', 'disk', 'none/out.raw'], 1, /make it first/],
  [['export', 'disk', 'store/superblock'], 2, /directory of the store/],
  // The command line itself.
  [['frobnicate'], 2, /frobnicate.*--help/],
  [['list', '--frobnicate'], 2, /frobnicate.*--help/],
  [['list', 'surplus'], 2, /--help/],
  [['clone', 'disk@a'], 2, /newvolume.*--help/],
  [['snapshot'], 2, /--help/],
  [['init'], 1, /already/],
  [['init', '--segment-size', '3M'], 2, /segment size/],
  [['init', '--capacity', '0'], 2, /zero/],
  [['serve', '--listen', 'localhost'], 2, /HOST:PORT/],
  [['serve', '--cache-size', 'much'], 2, /20G, 512MiB/],
  [['--store', '', 'list'], 2, /--store/],
];

function expectRefusal(
  ended: { code: number | null; out: string; err: string },
  code: number,
  words: RegExp,
): void {
  expect(ended.err).toMatch(words);
  expect(ended.err).toMatch(/^coppice: [^\n]+\n$/);
  expect(ended.err).not.toMatch(/\.ts:|\.js:|StoreError/);
  expect(ended.out).toBe('');
  expect(ended.code).toBe(code);
}

describe.each(['nobody', 'a server'])('when %s has the store', (owner) => {
  let before: string;

  beforeAll(async () => {
    before = await ok(store, ['list', '--json']);
    if (owner === 'nobody') return;
    const server = await serve(store);
    return async () => {
      await stop(server);
    };
  });

  it.each(REFUSED)('coppice %j is refused', async (args, code, words) => {
    expectRefusal(await run(['--store', store, ...args], { cwd: directory }), code, words);
  });

  it('none of this changed anything', async () => {
    expect(await ok(store, ['list', '--json'])).toBe(before);
    expect(await ok(store, ['export', 'disk', '-'])).toBe('\0'.repeat(2 ** 20));
    expect(fs.readdirSync(directory).sort()).toEqual(['empty.raw', 'large.raw', 'small.raw', 'store']);
  });
});

describe('a full store', () => {
  it.each(['nobody', 'a server'])(
    'that %s has says what an import left, and still answers',
    async (owner) => {
      const full = path.join(directory, owner === 'nobody' ? 'full-alone' : 'full-served');
      await ok(full, ['init', '--segment-size', '1M', '--capacity', '8M']);
      const server = owner === 'nobody' ? undefined : await serve(full);
      const input = Buffer.alloc(32 * 2 ** 20, 'x');
      const ended = await run(['--store', full, 'import', 'disk', '-', '--size', '32M'], { input });
      expectRefusal(ended, 1, /volume 'disk' now holds a part of the image and zeros.*--force/);
      if (server !== undefined) {
        expect(await ok(full, ['list'])).toContain('disk');
        await stop(server);
      }
      expect(await ok(full, ['list'])).toContain('disk');
    },
  );
});

describe('a directory', () => {
  it.each([
    ['that is not there', 'none'],
    ['that is empty', 'bare'],
    ['that is a file', 'small.raw'],
  ])('%s is no store', async (_what, name) => {
    if (name === 'bare') fs.mkdirSync(path.join(directory, name), { recursive: true });
    const commands = [
      ['list'],
      ['serve'],
      ['status'],
      ['create', 'a', '--size', '1M'],
      ['dump'],
      ['rebuild-index'],
    ];
    for (const args of commands) {
      expectRefusal(
        await run(['--store', path.join(directory, name), ...args]),
        1,
        /no store|coppice init|is a file/,
      );
    }
    expectRefusal(await run(['--store', path.join(directory, name), 'fsck']), 8, /store/);
    if (name === 'bare') fs.rmdirSync(path.join(directory, name));
  });

  it('of a newer format is refused', async () => {
    const newer = path.join(directory, 'newer');
    await ok(newer, ['init']);
    const file = path.join(newer, 'superblock');
    const bytes = fs.readFileSync(file);
    for (const at of [0, 4096]) if (bytes.length > at + 10) bytes.writeUInt16BE(99, at + 8);
    bytes.copy(bytes, 4096, 0, 10);
    bytes.copy(bytes, 0, 4096, 4106);
    bytes.write('COPPICE\n', 0, 'latin1');
    bytes.write('COPPICE\n', 4096, 'latin1');
    fs.writeFileSync(file, bytes);
    for (const args of [['list'], ['serve']]) {
      expectRefusal(await run(['--store', newer, ...args]), 1, /format revision 99.*newer coppice/);
    }
    expectRefusal(await run(['--store', newer, 'fsck']), 8, /format revision 99/);
    expect(fs.readFileSync(file).equals(bytes)).toBe(true);
    fs.rmSync(newer, { recursive: true });
  });

  it('that another command has is refused, naming its process', async () => {
    const owned = path.join(directory, 'owned');
    await ok(owned, ['init']);
    const owner = new Running(MAIN, ['--store', owned, 'import', 'disk', '-', '--size', '16M']);
    owner.child.stdin!.write(Buffer.alloc(5 * 2 ** 20, 1));
    await owner.until(() => fs.readFileSync(path.join(owned, 'store.lock'), 'utf8') !== '', 'the lock');
    const words = new RegExp(`in use by process ${owner.child.pid} since`);
    expectRefusal(await run(['--store', owned, 'list']), 1, words);
    expectRefusal(await run(['--store', owned, 'serve']), 1, words);
    expectRefusal(await run(['--store', owned, 'fsck']), 8, words);
    expectRefusal(await run(['--store', owned, 'rebuild-index']), 1, words);
    owner.child.stdin!.end();
    expect((await owner.ended).code).toBe(0);
    fs.rmSync(owned, { recursive: true });
  });

  it('that a server has is not served twice', async () => {
    const server = await serve(store);
    const words = new RegExp(`in use by process ${server.child.pid} since`);
    expectRefusal(await run(['--store', store, 'serve']), 1, words);
    expect((await stop(server)).code).toBe(0);
  });
});
