/** Connections that come fast, while somebody is served and while nobody is. */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import * as nbd from '../../src/nbd/protocol.ts';
import { type Fixture, serve, until } from './fixture.ts';
import type { RawClient } from './raw-client.ts';

const PER_SECOND = 100;
/** What may be taken at once: half a second of it. */
const BURST = PER_SECOND / 2;

/** Reads all the time until `stop`, which answers how often. */
function keepReading(client: RawClient): () => Promise<number> {
  let isOver = false;
  let count = 0;
  const reading = (async () => {
    while (!isOver) {
      const { error } = await client.ask(
        { type: nbd.NBD_CMD_READ, offset: 0, length: 4096 },
        undefined,
        4096,
      );
      expect(error).toBe(0);
      count += 1;
    }
    return count;
  })();
  return async () => {
    isOver = true;
    return await reading;
  };
}

/** Milliseconds until `count` clients that came at once have been greeted. */
async function knock({ connect }: Fixture, count: number): Promise<number> {
  const began = performance.now();
  const clients = await Promise.all(Array.from({ length: count }, connect));
  await Promise.all(clients.map(async (client) => await client.greet()));
  return performance.now() - began;
}

describe('connections that come faster than the pace', () => {
  it('wait while somebody is served, who is served on, and all get in', async () => {
    const fixture = await serve({ limits: { acceptsPerSecondMax: PER_SECOND } });
    const stop = keepReading(await fixture.enter());
    const tookMs = await knock(fixture, BURST + 50);
    expect(tookMs).toBeGreaterThan(350);
    expect(tookMs).toBeLessThan(5000);
    expect(await stop()).toBeGreaterThan(100);
    expect(fixture.server.connectionCount).toBe(BURST + 50 + 1);
    await fixture.enter();
  });

  it('get in at once while nobody is served', async () => {
    const fixture = await serve({ limits: { acceptsPerSecondMax: 10 } });
    await fixture.enter();
    // The first look finds that the client which is there has moved: once.
    expect(await knock(fixture, 100)).toBeLessThan(2000);
  });

  it('are forgiven when they came while nobody was served', async () => {
    const fixture = await serve({ limits: { acceptsPerSecondMax: PER_SECOND, handshakesMax: 1000 } });
    const clients = await Promise.all(Array.from({ length: 400 }, fixture.connect));
    await Promise.all(clients.map(async (client) => await client.greet()));
    const stop = keepReading(await fixture.enter());
    for (let i = 0; i < 20; i++) await fixture.connect();
    const tookMs = await knock(fixture, 1);
    expect(tookMs).toBeLessThan(1000); // 3.5 s for those that came before
    await stop();
  });

  it('do not keep a server from its end whose socket cannot be removed', async () => {
    const fixture = await serve();
    const { socketPath } = fixture;
    fs.rmSync(socketPath);
    fs.mkdirSync(socketPath);
    await fixture.server.close(1000);
    expect(fs.statSync(socketPath).isDirectory()).toBe(true);
  });

  it('are gone with the server when it stops, as is its socket', async () => {
    const fixture = await serve({ limits: { acceptsPerSecondMax: 10 } });
    const stop = keepReading(await fixture.enter());
    const waiting = [fixture.connect(), fixture.connect(), fixture.connect(), fixture.connect()];
    waiting.push(...Array.from({ length: 50 }, fixture.connect));
    await Promise.all(waiting);
    await until(() => fixture.server.connectionCount > 5);
    expect(fixture.server.connectionCount).toBeLessThan(50);
    await stop();
    const descriptors = fs.readdirSync('/proc/self/fd').length;
    await fixture.server.close(1000);
    expect(fs.existsSync(fixture.socketPath)).toBe(false);
    expect(fs.readdirSync('/proc/self/fd').length).toBeLessThan(descriptors);
    await expect(fixture.connect()).rejects.toThrow(/ENOENT/);
  });
});
