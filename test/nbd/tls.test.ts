/** TLS over a client's socket: who gets in, by which name, and that all that holds in plain text holds with it. */

import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import pino from 'pino';
import { beforeAll, describe, expect, it } from 'vitest';
import * as nbd from '../../src/nbd/protocol.ts';
import { loadCertificates } from '../../src/tls/credentials.ts';
import { Random, seeds } from '../support/random.ts';
import { scratchDirectory } from '../support/stores.ts';
import { type MadeCertificates, makeCertificates, TLS_TOOLS } from '../support/tls-files.ts';
import { requireTools } from '../support/tools.ts';
import { DISK_BYTES, type Fixture, pause, serve, until } from './fixture.ts';
import { encodeOption, RawClient } from './raw-client.ts';
import { clientsOf, complaintsOf, KEYS, serveTls, Wire, withKey } from './tls-fixture.ts';

const MIB = 2 ** 20;
const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;
const only = (version: (typeof VERSIONS)[number]): tls.ConnectionOptions => ({
  minVersion: version,
  maxVersion: version,
});

/** True if the client comes as far as an export: in TLS 1.3 it learns only then that it was refused. */
async function getsIn(fixture: Fixture, options: tls.ConnectionOptions): Promise<boolean> {
  try {
    await fixture.enter({ tls: options });
    return true;
  } catch {
    return false;
  }
}

describe.each(VERSIONS)('a shared key, %s', (version) => {
  it('lets in who has it, by the name that goes with it', async () => {
    const fixture = await serveTls();
    for (const name of ['alice', 'bob', 'alice'])
      expect(await getsIn(fixture, withKey(name, undefined, only(version)))).toBe(true);
    expect(clientsOf(fixture)).toEqual(['alice', 'bob', 'alice']);
  });

  it.each([
    ['another key', 'alice', Buffer.alloc(32, 1)],
    ['the key of somebody else', 'alice', KEYS.get('bob')!],
    ['an unknown name', 'carol', KEYS.get('alice')!],
    ['a name that begins like another', 'alice\0', Buffer.alloc(32)],
    ['the name of a method', 'constructor', Buffer.alloc(32)],
  ])('keeps out who comes with %s', async (_, name, key) => {
    const fixture = await serveTls();
    expect(await getsIn(fixture, withKey(name, key, only(version)))).toBe(false);
    expect([complaintsOf(fixture), fixture.disk.opens]).toEqual([['a TLS handshake failed'], 0]);
    expect(await getsIn(fixture, withKey('alice', undefined, only(version)))).toBe(true);
  });

  it('has to be had for each session: none is resumed', async () => {
    const fixture = await serveTls();
    const first = await fixture.connect();
    await first.greet();
    await first.startTls(withKey('alice', undefined, only(version)));
    const before = first.socket as tls.TLSSocket;
    const sessions: Buffer[] = [before.getSession()!];
    before.on('session', (session: Buffer) => sessions.push(session));
    await first.negotiate(nbd.NBD_OPT_LIST);
    expect(sessions.length).toBeGreaterThan(version === 'TLSv1.3' ? 1 : 0);
    for (const session of sessions) {
      const again = { ...only(version), session };
      expect(await getsIn(fixture, withKey('alice', undefined, again))).toBe(true);
      expect(await getsIn(fixture, withKey('alice', Buffer.alloc(32), again))).toBe(false);
    }
  });
});

describe.skipIf(!requireTools(TLS_TOOLS))('certificates', () => {
  let made: MadeCertificates;
  const logger = pino({ level: 'silent' });
  beforeAll(() => {
    made = makeCertificates(scratchDirectory());
  });

  async function serveCertificates(directory: string, verifyPeer: boolean): Promise<Fixture> {
    const credentials = await loadCertificates(directory, verifyPeer, logger);
    return serve({ tls: { mode: 'require', credentials } });
  }

  /** What a client of `directory` connects with. */
  function clientOf(directory: string, more: tls.ConnectionOptions = {}): tls.ConnectionOptions {
    const file = (name: string): Buffer | undefined => {
      const whole = path.join(directory, name);
      return fs.existsSync(whole) ? fs.readFileSync(whole) : undefined;
    };
    const [ca, cert, key] = ['ca-cert.pem', 'client-cert.pem', 'client-key.pem'].map(file);
    return { ca: ca!, ...(cert === undefined ? {} : { cert, key: key! }), servername: 'localhost', ...more };
  }

  it.each(VERSIONS)('the server shows its own, and asks for none: nobody has a name, %s', async (version) => {
    const fixture = await serveCertificates(made.all, false);
    for (const directory of [made.authorityOnly, made.all, made.stranger])
      expect(await getsIn(fixture, clientOf(directory, only(version)))).toBe(true);
    expect(clientsOf(fixture)).toEqual([undefined, undefined, undefined]);
    expect(await getsIn(fixture, clientOf(made.all, { ...only(version), servername: 'elsewhere' }))).toBe(
      false,
    );
  });

  it.each(VERSIONS)(
    'a client that is verified has the common name of its certificate, %s',
    async (version) => {
      const fixture = await serveCertificates(made.all, true);
      for (const directory of [made.all, made.revoked])
        expect(await getsIn(fixture, clientOf(directory, only(version)))).toBe(true);
      expect(clientsOf(fixture)).toEqual(['alice', 'mallory']);
    },
  );

  it.each(
    VERSIONS.flatMap((version) =>
      ['authorityOnly', 'stranger', 'expired'].map((who) => [version, who] as const),
    ),
  )('%s: a client with %s is kept out where clients are verified', async (version, who) => {
    const fixture = await serveCertificates(made.all, true);
    const directory = made[who as keyof MadeCertificates];
    expect(await getsIn(fixture, clientOf(directory, only(version)))).toBe(false);
    await until(() => complaintsOf(fixture).length > 0);
    expect(complaintsOf(fixture)).toEqual([
      who === 'authorityOnly' ? 'a TLS handshake failed' : 'the certificate of a client was not accepted',
    ]);
    expect(fixture.disk.opens).toBe(0);
  });

  it.each(VERSIONS)(
    'each authority above a client has to have a list of its own, and what is on it counts, %s',
    async (version) => {
      const all = await serveCertificates(made.withLists, true);
      for (const directory of [made.revoked, made.revokedBelow])
        expect(await getsIn(all, clientOf(directory, only(version)))).toBe(false);
      for (const directory of [made.all, made.below])
        expect(await getsIn(all, clientOf(directory, only(version)))).toBe(true);
      expect(clientsOf(all)).toEqual(['alice', 'bob']);
      const one = await serveCertificates(made.withList, true);
      expect(await getsIn(one, clientOf(made.below, only(version)))).toBe(false);
      const none = await serveCertificates(made.all, true);
      expect(await getsIn(none, clientOf(made.below, only(version)))).toBe(true);
    },
  );

  it.each(VERSIONS)(
    'a client whose certificate is on the list of revoked ones is kept out, %s',
    async (version) => {
      const fixture = await serveCertificates(made.withList, true);
      expect(await getsIn(fixture, clientOf(made.revoked, only(version)))).toBe(false);
      expect(await getsIn(fixture, clientOf(made.all, only(version)))).toBe(true);
      expect(clientsOf(fixture)).toEqual(['alice']);
    },
  );

  it('the certificate of a server is none that a client may show', async () => {
    const fixture = await serveCertificates(made.all, true);
    const [cert, key] = ['server-cert.pem', 'server-key.pem'].map((name) =>
      fs.readFileSync(path.join(made.all, name)),
    );
    expect(await getsIn(fixture, clientOf(made.authorityOnly, { cert: cert!, key: key! }))).toBe(false);
  });

  it.each(VERSIONS)(
    'a session is not resumed by a client that has no certificate any more, %s',
    async (version) => {
      const fixture = await serveCertificates(made.all, true);
      const first = await fixture.connect();
      await first.greet();
      const sessions: Buffer[] = [];
      await first.startTls(clientOf(made.all, only(version)));
      first.socket.on('session', (session: Buffer) => sessions.push(session));
      await first.negotiate(nbd.NBD_OPT_LIST);
      sessions.push((first.socket as tls.TLSSocket).getSession()!);
      for (const session of sessions)
        expect(await getsIn(fixture, clientOf(made.authorityOnly, { ...only(version), session }))).toBe(
          false,
        );
      expect(fixture.disk.opens).toBe(0);
    },
  );

  it('a session of TLS 1.2 is not negotiated anew', async () => {
    const fixture = await serveCertificates(made.all, true);
    const client = await fixture.enter({ tls: clientOf(made.all, only('TLSv1.2')) });
    const refused = new Promise<boolean>((resolve) => {
      client.socket.once('error', () => resolve(true));
      client.socket.once('close', () => resolve(true));
      (client.socket as tls.TLSSocket).renegotiate({}, (error) => resolve(error !== null));
    });
    expect(await refused).toBe(true);
  });
});

describe('many handshakes at once', () => {
  it('each client has its own name, beside others that fail, go away, or say nothing', async () => {
    const fixture = await serveTls();
    const silent = await Promise.all(Array.from({ length: 5 }, () => started(fixture)));
    const clients = Array.from({ length: 60 }, async (_, i) => {
      const name = i % 2 === 0 ? 'alice' : 'bob';
      const client = await started(fixture);
      if (i % 5 === 4) {
        client.send(Buffer.from('160301', 'hex'));
        await pause(i % 7);
        client.close();
        return undefined;
      }
      const key = i % 5 === 3 ? Buffer.alloc(32) : undefined;
      await client.encrypt(withKey(name, key)).catch(() => undefined);
      if (i % 5 === 3) return undefined;
      // A disk of its own, so that the log says who got which.
      await client.negotiate(nbd.NBD_OPT_GO, goTo(i % 2 === 0 ? 'disk' : 'disk@monday'));
      expect((await client.ask({ type: nbd.NBD_CMD_FLUSH })).error).toBe(nbd.NBD_SUCCESS);
      return name;
    });
    const names = (await Promise.all(clients)).filter((name) => name !== undefined);
    const seen = fixture.logged.filter(({ msg }) => msg === 'transmission begins');
    expect(seen.length).toBe(names.length);
    for (const entry of seen) expect(entry['client']).toBe(entry['export'] === 'disk' ? 'alice' : 'bob');
    for (const client of silent) client.close();
  });
});

describe('over TLS', () => {
  const runs = seeds(1).flatMap((seed) => VERSIONS.map((version) => [version, seed] as const));
  it.each(runs)(
    'long writes and reads arrive byte for byte, many at a time, %s, SEED=%d',
    async (version, seed) => {
      const { enter, disk } = await serveTls();
      const random = new Random(seed);
      const client = await enter({ structured: true, tls: withKey('bob', undefined, only(version)) });
      const content = Buffer.concat(Array.from({ length: 16 }, () => random.bytes(MIB)));
      for (let cookie = 0; cookie < 16; cookie++) {
        const payload = content.subarray(cookie * MIB, (cookie + 1) * MIB);
        const offset = cookie * MIB;
        client.send(client.encode({ type: nbd.NBD_CMD_WRITE, offset, length: MIB, cookie }), payload);
      }
      for (let cookie = 0; cookie < 16; cookie++) expect((await client.reply()).error).toBe(0);
      expect(disk.bytes.subarray(0, DISK_BYTES).equals(content)).toBe(true);
      for (let cookie = 0; cookie < 16; cookie++)
        client.send(
          client.encode({ type: nbd.NBD_CMD_READ, offset: cookie * MIB, length: MIB, cookie, flags: 4 }),
        );
      for (let cookie = 0; cookie < 16; cookie++) {
        const reply = await client.reply();
        const from = reply.cookie * MIB;
        expect(reply.payload.subarray(8).equals(content.subarray(from, from + MIB))).toBe(true);
      }
    },
  );

  it('memory does not grow for a client that reads no replies', async () => {
    const { enter, server } = await serveTls();
    const client = await enter({ tls: withKey() });
    client.socket.pause();
    for (let cookie = 0; cookie < 4000; cookie++)
      client.send(client.encode({ type: nbd.NBD_CMD_READ, length: 65536, cookie }));
    await pause(300);
    expect(server.inFlightBytes).toBeGreaterThan(3 * MIB);
    expect(server.inFlightBytes).toBeLessThan(5 * MIB);
    const other = await enter({ tls: withKey('bob') });
    expect(await other.ask({ type: nbd.NBD_CMD_FLUSH })).toMatchObject({ error: 0 });
    client.socket.resume();
    const seen = new Set<number>();
    for (let index = 0; index < 400; index++) seen.add((await client.reply(65536)).cookie);
    expect(seen.size).toBe(400);
  });

  it('at most 64 MiB of payloads are held for one connection, and all are answered in the end', async () => {
    const { enter, server, disk } = await serveTls();
    disk.holds = true;
    const client = await enter({ tls: withKey() });
    for (let cookie = 0; cookie < 80; cookie++)
      client.send(client.encode({ type: nbd.NBD_CMD_WRITE, length: MIB, cookie }), Buffer.alloc(MIB, cookie));
    await until(() => disk.waitingCount === 64);
    await pause(100);
    expect([disk.waitingCount, server.inFlightBytes]).toEqual([64, 64 * MIB]);
    disk.letGo();
    const seen = new Set<number>();
    for (let index = 0; index < 80; index++) seen.add((await client.reply()).cookie);
    expect(seen.size).toBe(80);
  }, 20_000);

  it('a client that closes its direction still gets its replies', async () => {
    const { enter, disk, exports } = await serveTls();
    disk.holds = true;
    const client = await enter({ tls: withKey() });
    client.socket.allowHalfOpen = true;
    client.send(client.encode({ type: nbd.NBD_CMD_FLUSH, cookie: 7 }));
    client.socket.end();
    await until(() => disk.waitingCount === 1);
    await pause();
    disk.letGo();
    expect(await client.reply()).toMatchObject({ error: 0, cookie: 7 });
    await until(() => exports.openCount === 0);
    expect(exports.openCount).toBe(0);
  });

  it('a stop answers what is in flight, and says goodbye', async () => {
    const { enter, disk, server } = await serveTls();
    disk.holds = true;
    const client = await enter({ tls: withKey() });
    client.send(client.encode({ type: nbd.NBD_CMD_FLUSH, cookie: 7 }));
    await until(() => disk.waitingCount === 1);
    const closing = server.close(5000);
    expect(await client.ask({ type: nbd.NBD_CMD_READ, length: 512, cookie: 8 })).toMatchObject({
      error: nbd.NBD_ESHUTDOWN,
    });
    disk.letGo();
    expect(await client.reply()).toMatchObject({ error: 0, cookie: 7 });
    expect((await client.takeRest()).length).toBe(0);
    await closing;
  });

  it('what was changed on the way ends the connection, and no other', async () => {
    const fixture = await serveTls();
    const other = await fixture.enter({ tls: withKey('bob') });
    const wire = await Wire.to(fixture.socketPath);
    const client = await RawClient.connect(wire.path);
    await client.enter('disk', { tls: withKey() });
    wire.tampers = true;
    client.send(client.encode({ type: nbd.NBD_CMD_WRITE, length: 512 }), Buffer.alloc(512));
    await client.takeRest();
    await wire.close();
    await until(() => fixture.server.connectionCount === 1);
    expect([fixture.server.connectionCount, fixture.disk.log]).toEqual([1, []]);
    expect((await other.ask({ type: nbd.NBD_CMD_FLUSH })).error).toBe(0);
  });
});

describe('the time of a handshake', () => {
  it.each(['says nothing', 'trickles'])('is over for a client that %s behind STARTTLS', async (how) => {
    const fixture = await serveTls('require', { limits: { handshakeMsMax: 300 } });
    const client = await started(fixture);
    const hello = await clientHello();
    const trickle = setInterval(() => {
      if (how === 'trickles') client.send(hello.subarray(0, 1));
    }, 20);
    client.send(hello.subarray(0, 40));
    const begun = performance.now();
    await client.takeRest();
    clearInterval(trickle);
    expect(performance.now() - begun).toBeLessThan(2_000);
    if (how === 'says nothing') expect(complaintsOf(fixture)).toEqual(['the handshake took too long']);
    await until(() => fixture.server.connectionCount === 0);
    expect(fixture.server.connectionCount).toBe(0);
  });

  it('does not hold up a stop', async () => {
    const fixture = await serveTls();
    await Promise.all(Array.from({ length: 10 }, () => started(fixture)));
    const begun = performance.now();
    await fixture.server.close(5000);
    expect(performance.now() - begun).toBeLessThan(2_000);
  });
});

describe('bytes in the place of a ClientHello', () => {
  it.each(seeds(1))(
    'do no harm, whatever they are, SEED=%d',
    async (seed) => {
      const random = new Random(seed);
      const fixture = await serveTls('require', { limits: { handshakeMsMax: 2_000 } });
      const hello = await clientHello();
      for (let round = 0; round < 400; round++) {
        const client = await started(fixture);
        client.send(strangeHello(random, hello));
        if (random.below(2) === 0) client.socket.end();
        else await pause(random.below(3));
        client.close();
      }
      const client = await fixture.enter({ tls: withKey() });
      expect((await client.ask({ type: nbd.NBD_CMD_FLUSH })).error).toBe(0);
      await until(() => fixture.server.connectionCount === 1);
      expect(fixture.server.connectionCount).toBe(1);
      expect(fixture.disk.opens).toBe(1);
    },
    60_000,
  );
});

function strangeHello(random: Random, hello: Buffer): Buffer {
  const kind = random.below(4);
  if (kind === 0) return random.bytes(1 + random.below(2000));
  if (kind === 1) return hello.subarray(0, random.below(hello.length));
  const bytes = Buffer.from(hello);
  for (let flips = 1 + random.below(8); flips > 0; flips--)
    bytes[random.below(bytes.length)] = random.below(256);
  return kind === 2 ? bytes : Buffer.concat([hello, bytes]);
}

/** A client whose STARTTLS was acknowledged. */
async function started(fixture: Fixture): Promise<RawClient> {
  const client = await fixture.connect();
  await client.greet();
  client.send(encodeOption(nbd.NBD_OPT_STARTTLS, Buffer.alloc(0)));
  await client.replies();
  return client;
}

function goTo(name: string): Buffer {
  const body = Buffer.alloc(6 + name.length);
  body.writeUInt32BE(name.length);
  body.write(name, 4);
  return body;
}

/** What a client of OpenSSL says first. */
async function clientHello(): Promise<Buffer> {
  const [near, far] = await pairOfSockets();
  const client = tls.connect({ ...withKey(), socket: near });
  client.on('error', () => undefined);
  const hello = await new Promise<Buffer>((resolve) => far.once('data', resolve));
  for (const socket of [client, near, far]) socket.destroy();
  return hello;
}

async function pairOfSockets(): Promise<[net.Socket, net.Socket]> {
  const listener = net.createServer();
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const accepted = new Promise<net.Socket>((resolve) => listener.once('connection', resolve));
  const near = net.connect((listener.address() as net.AddressInfo).port, '127.0.0.1');
  const far = await accepted;
  listener.close();
  return [near, far];
}
