/** Who is offered what: the rules by themselves, and that nothing tells a refused export from one that is not there. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { AccessRules, parseAccessRules } from '../../src/nbd/access-rules.ts';
import { matchesPattern } from '../../src/nbd/name-pattern.ts';
import * as nbd from '../../src/nbd/protocol.ts';
import { contextsOf, flagsOf, greeted, isDropped, last, serverNames } from './conformance/negotiation.ts';
import { DISK_BYTES, type Fixture, serve } from './fixture.ts';
import { MemoryDevice } from './memory-device.ts';
import { encodeContexts, encodeInfo, encodeOption, RawClient } from './raw-client.ts';
import { serveTls, withKey } from './tls-fixture.ts';

const { NBD_REP_ACK, NBD_REP_ERR_UNKNOWN } = nbd;

describe('a pattern', () => {
  it.each([
    ['disk', 'disk', true],
    ['disk', 'disk@a', false],
    ['disk', 'dis', false],
    ['*', '', true],
    ['*', 'anything@all', true],
    ['disk@*', 'disk@', true],
    ['disk@*', 'disk', false],
    ['d?sk', 'dusk', true],
    ['d?sk', 'dsk', false],
    ['?', '', false],
    ['*-web-*', 'a-web-b', true],
    ['*-web-*', 'a-web', false],
    ['a*b*c', 'aXbbXbc', true],
    ['a*b*c', 'aXbbXb', false],
    ['**a', 'bca', true],
    ['a.c', 'abc', false],
    ['', '', true],
    ['', 'a', false],
    ['*', '*', true],
  ])('%j and %j: %s', (pattern, name, matches) => {
    expect(matchesPattern(pattern, name)).toBe(matches);
  });

  it('agrees with regular expressions on all short names', () => {
    const words = (letters: string[], length: number): string[] =>
      length === 0 ? [''] : words(letters, length - 1).flatMap((w) => [w, ...letters.map((c) => w + c)]);
    const names = [...new Set(words(['a', 'b'], 5))];
    for (const pattern of new Set(words(['a', 'b', '?', '*'], 4))) {
      const regular = new RegExp(`^${pattern.replaceAll('?', '.').replaceAll('*', '.*')}$`);
      for (const name of names) expect(matchesPattern(pattern, name)).toBe(regular.test(name));
    }
  });

  it('takes no time that grows out of hand, whatever name a client makes up', () => {
    const before = performance.now();
    expect(matchesPattern(`${'*a'.repeat(60)}b`, 'a'.repeat(4096))).toBe(false);
    expect(performance.now() - before).toBeLessThan(500);
  });
});

describe('rules', () => {
  const rules = new AccessRules(
    parseAccessRules(
      JSON.stringify([
        { listener: '/run/*', exports: ['*'] },
        { client: 'backup', exports: ['*@*'], readOnly: true },
        { client: 'web-?', exports: ['web*'] },
        { client: '*', exports: [] },
        { listener: '127.0.0.1:*', exports: ['public'] },
      ]),
    ),
  );

  it.each([
    ['/run/coppice.sock', undefined, 'disk', 'all'],
    ['/run/coppice.sock', 'web-1', 'disk', 'all'],
    ['127.0.0.1:10809', 'backup', 'disk@a', 'read'],
    ['127.0.0.1:10809', 'backup', 'disk', 'nothing'],
    ['127.0.0.1:10809', 'web-1', 'web-data', 'all'],
    ['127.0.0.1:10809', 'web-1', 'disk', 'nothing'],
    ['127.0.0.1:10809', 'web-1', 'public', 'nothing'],
    ['127.0.0.1:10809', 'someone', 'public', 'nothing'],
    ['127.0.0.1:10809', undefined, 'public', 'all'],
    ['127.0.0.1:10809', undefined, 'web-data', 'nothing'],
    ['[::1]:10809', undefined, 'public', 'nothing'],
  ])('over %s, %s may have of %s: %s', (listener, client, name, may) => {
    const grant = rules.grant(listener, client);
    expect(!grant.offers(name) ? 'nothing' : grant.readOnly ? 'read' : 'all').toBe(may);
  });

  it('offer nothing beyond the names that a server offers at all', () => {
    const limited = new AccessRules([{ exports: ['*'] }], ['disk', 'disk@*']);
    const grant = limited.grant('any', undefined);
    expect(['disk', 'disk@a', 'disks', 'other'].map((name) => grant.offers(name))).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect(grant.offersAll).toBe(false);
    expect(new AccessRules().grant('any', undefined).offersAll).toBe(true);
    expect(new AccessRules([]).grant('any', undefined).offers('disk')).toBe(false);
  });

  it('say which names some client may have over a listener', () => {
    const may = (listener: string, name: string): boolean => rules.mayOffer(listener, name);
    expect([may('/run/x', 'disk'), may('[::1]:1', 'web'), may('[::1]:1', 'disk')]).toEqual([
      true,
      true,
      false,
    ]);
    const shadowed = new AccessRules([{ exports: ['a'] }, { exports: ['b'] }]);
    expect([shadowed.mayOffer('any', 'a'), shadowed.mayOffer('any', 'b')]).toEqual([true, false]);
  });

  it.each([
    ['', /no JSON/],
    ['{}', /list of rules/],
    ['["disk"]', /rule 1 is none/],
    ['[{}]', /rule 1: 'exports'/],
    ['[{"exports": "disk"}]', /rule 1: 'exports'/],
    ['[{"exports": ["*"]}, {"exports": ["a,b"]}]', /rule 2: "a,b" can match no export/],
    ['[{"exports": [""]}]', /rule 1: "" can match no export/],
    ['[{"exports": [7]}]', /rule 1: 7 can match no export/],
    ['[{"exports": [], "clients": "a"}]', /rule 1 has 'clients'.*listener, client, exports and readOnly/],
    ['[{"exports": [], "client": ""}]', /rule 1: 'client'/],
    ['[{"exports": [], "listener": 10809}]', /rule 1: 'listener'/],
    ['[{"exports": [], "readOnly": "yes"}]', /rule 1: 'readOnly'/],
  ])('that are wrong are refused by a sentence: %s', (text, sentence) => {
    expect(() => parseAccessRules(text)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(sentence) }),
    );
  });
});

/** `disk` and its snapshot `monday` are offered, the rest is not. */
async function serveSome(readOnly?: boolean): Promise<Fixture> {
  const rule = { exports: ['disk', 'disk@m*'], ...(readOnly === undefined ? {} : { readOnly }) };
  const fixture = await serve({ access: new AccessRules([rule]) });
  for (const name of ['secret', 'secret@monday', 'disk@friday'])
    fixture.exports.add(new MemoryDevice(name, DISK_BYTES, name.includes('@')));
  return fixture;
}

const hidden = (fixture: Fixture): MemoryDevice[] =>
  ['secret', 'secret@monday', 'disk@friday'].map((name) => fixture.exports.devices.get(name)!);

describe('what is refused', () => {
  /** All that a client is told about a name, in every way that there is to ask. */
  async function told(fixture: Fixture, name: string): Promise<unknown[]> {
    const client = await greeted(fixture);
    await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    const information = [nbd.NBD_INFO_NAME, nbd.NBD_INFO_DESCRIPTION, nbd.NBD_INFO_BLOCK_SIZE];
    const answers: unknown[] = [];
    const ask = async (option: number, body: Buffer): Promise<void> => {
      answers.push(await client.negotiate(option, body));
    };
    for (const option of [nbd.NBD_OPT_INFO, nbd.NBD_OPT_GO]) await ask(option, encodeInfo(name, information));
    for (const option of [nbd.NBD_OPT_LIST_META_CONTEXT, nbd.NBD_OPT_SET_META_CONTEXT]) {
      await ask(option, encodeContexts(name, ['base:', 'base:allocation']));
      await ask(option, encodeContexts('disk', [`coppice:changed-since:${name}`]));
      await ask(option, encodeContexts('disk', [`qemu:dirty-bitmap:${name}`]));
      await ask(option, encodeContexts('disk', [`qemu:dirty-bitmap:${name.split('@')[1] ?? name}`]));
    }
    await ask(nbd.NBD_OPT_LIST, Buffer.alloc(0));
    client.send(encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from(name)));
    answers.push(await isDropped(client));
    return answers;
  }

  it.each(['secret', 'secret@monday', 'disk@friday'])(
    '%s is answered byte for byte as what is not there, and never looked up',
    async (name) => {
      const fixture = await serveSome();
      const absent = name.replace('secret', 'absent').replace('friday', 'sunday');
      const replies = await told(fixture, name);
      expect(replies).toEqual(await told(fixture, absent));
      expect((replies[0] as { type: number }[]).at(-1)!.type).toBe(NBD_REP_ERR_UNKNOWN);
      expect(hidden(fixture).map(({ opens }) => opens)).toEqual([0, 0, 0]);
      const refused = new Set(fixture.logged.map((line) => line['reason']));
      expect(refused).toEqual(new Set(['the export asked for cannot be opened: NOT_FOUND']));
    },
  );

  it('is in no list, of exports or contexts, and cannot be selected', async () => {
    const fixture = await serveSome();
    const client = await greeted(fixture);
    await client.negotiate(nbd.NBD_OPT_STRUCTURED_REPLY);
    expect(serverNames(await client.negotiate(nbd.NBD_OPT_LIST))).toEqual(['disk', 'disk@monday']);
    for (const queries of [[], ['coppice:', 'qemu:'], ['coppice:changed-since:', 'qemu:dirty-bitmap:']]) {
      const listed = contextsOf(
        await client.negotiate(nbd.NBD_OPT_LIST_META_CONTEXT, encodeContexts('disk', queries)),
      );
      const snapshots = [...listed.keys()].filter((name) => /since|bitmap/.test(name));
      expect(snapshots).toEqual(['coppice:changed-since:monday', 'qemu:dirty-bitmap:monday']);
    }
    const queries = ['monday', 'friday', 'disk@friday', 'secret@monday'].map(
      (name) => `coppice:changed-since:${name}`,
    );
    const selected = await client.negotiate(nbd.NBD_OPT_SET_META_CONTEXT, encodeContexts('disk', queries));
    expect([...contextsOf(selected).keys()]).toEqual(['coppice:changed-since:monday']);
    expect(hidden(fixture).map(({ opens }) => opens)).toEqual([0, 0, 0]);
  });

  it('does not count where the only volume is the default one', async () => {
    const client = await greeted(await serveSome());
    expect(last(await client.negotiate(nbd.NBD_OPT_GO, encodeInfo('')))).toBe(NBD_REP_ACK);
  });
});

describe('what is offered to be read', () => {
  it('says so, and refuses writes', async () => {
    const fixture = await serveSome(true);
    const asking = await greeted(fixture);
    const facts = await asking.negotiate(nbd.NBD_OPT_INFO, encodeInfo('disk'));
    expect(flagsOf(facts) & nbd.NBD_FLAG_READ_ONLY).not.toBe(0);
    const client = await fixture.enter();
    const reply = await client.ask({ type: nbd.NBD_CMD_WRITE, length: 4 }, Buffer.from('abcd'));
    expect(reply.error).toBe(nbd.NBD_EPERM);
    expect(await client.ask({ type: nbd.NBD_CMD_READ, length: 4 }, undefined, 4)).toMatchObject({ error: 0 });
  });
});

describe('rules by listener', () => {
  it('hold for Unix sockets by their path and for TCP by address and port', async () => {
    const fixture = await serve({
      access: new AccessRules([
        { listener: '*/second.sock', exports: ['disk@*'] },
        { listener: '[::1]:*', exports: ['none'] },
        { listener: '127.0.0.1:*', exports: ['disk'] },
      ]),
    });
    const second = path.join(path.dirname(fixture.socketPath), 'second.sock');
    await fixture.server.listenUnix(second);
    const four = await fixture.server.listenTcp('127.0.0.1', 0);
    const six = await fixture.server.listenTcp('::1', 0);
    const listed = async (to: string | { host: string; port: number }): Promise<string[]> => {
      const client = await RawClient.connect(to);
      await client.greet();
      const names = serverNames(await client.negotiate(nbd.NBD_OPT_LIST));
      client.close();
      return names;
    };
    expect(await listed(fixture.socketPath)).toEqual([]);
    expect(await listed(second)).toEqual(['disk@monday']);
    expect(await listed(four)).toEqual(['disk']);
    expect(await listed(six)).toEqual([]);
    expect(fixture.server.listeners.map(({ name }) => name)).toEqual([
      fixture.socketPath,
      second,
      `127.0.0.1:${four.port}`,
      `[::1]:${six.port}`,
    ]);
    expect(fs.existsSync(second)).toBe(true);
  });
});

describe('rules by client', () => {
  it('hold for the name that it has proved, from the moment at which it has', async () => {
    const fixture = await serveTls('on', {
      access: new AccessRules([
        { client: 'alice', exports: ['disk'] },
        { client: '*', exports: [] },
        { exports: ['disk@*'] },
      ]),
    });
    const listed = async (name?: string): Promise<string[]> => {
      const client = await greeted(fixture);
      if (name !== undefined) {
        expect(serverNames(await client.negotiate(nbd.NBD_OPT_LIST))).toEqual(['disk@monday']);
        await client.startTls(withKey(name));
      }
      return serverNames(await client.negotiate(nbd.NBD_OPT_LIST));
    };
    expect(await listed()).toEqual(['disk@monday']);
    expect(await listed('alice')).toEqual(['disk']);
    expect(await listed('bob')).toEqual([]);
  });
});
