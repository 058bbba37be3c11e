/**
 * The routes about volumes, snapshots and the store as a whole. No invariants of their own: what a field means and
 * whether it is right is for the store to say; here only its type is checked.
 */

import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { StoreError } from '../base/errors.ts';
import type { ThoroughOptions } from '../compaction/thorough.ts';
import type { DemoteOptions } from '../volume/roles.ts';
import type { ScrubOptions } from '../volume/scrub.ts';
import type { HoldOptions } from '../volume/version-changes.ts';
import type { DeleteOptions, ResizeOptions, RollbackOptions } from '../volume/version-removal.ts';
import type { DiskLeases } from './disk-leases.ts';
import type { Door } from './door.ts';
import { CONTROL_PROTOCOL, CONTROL_SERVICE, encodeError, type Hello, type StreamLine } from './wire.ts';

const TEXT = { type: 'string' } as const;
const NUMBER = { type: 'number' } as const;
const FLAG = { type: 'boolean' } as const;
/** Extents are many and come fast: they travel together. */
const EXTENTS_AT_ONCE = 256;
const TEXTS = { type: 'array', items: TEXT } as const;

function fields(properties: Record<string, object>, optional: Record<string, object> = {}): object {
  return {
    type: 'object',
    properties: { ...properties, ...optional },
    required: Object.keys(properties),
  };
}

export function addVersionRoutes(
  app: FastifyInstance,
  door: Door,
  leases: DiskLeases,
  isClosing: () => boolean,
): void {
  /** Leases know a version by its name, and what was taken back from one, even by a change that failed, stays so. */
  const endingLeases = async <T>(change: () => Promise<T>): Promise<T> => {
    try {
      return await change();
    } finally {
      leases.end();
    }
  };

  app.get('/v1/hello', async (): Promise<Hello> => {
    return { service: CONTROL_SERVICE, protocol: CONTROL_PROTOCOL, pid: process.pid };
  });

  app.get('/v1/versions', async () => await door.list());

  app.get<{ Querystring: { name: string } }>(
    '/v1/version',
    { schema: { querystring: fields({ name: TEXT }) } },
    async (request) => await door.show(request.query.name),
  );

  app.get<{ Querystring: { atCheckpoint?: 'true' | 'false' } }>(
    '/v1/status',
    { schema: { querystring: fields({}, { atCheckpoint: { enum: ['true', 'false'] } }) } },
    async (request) => await door.status({ atCheckpoint: request.query.atCheckpoint === 'true' }),
  );

  app.get<{ Querystring: { quick?: 'true' | 'false' } }>(
    '/v1/check',
    { schema: { querystring: fields({}, { quick: { enum: ['true', 'false'] } }) } },
    async (request, reply) => {
      const lines = linesFor(door.check({ quick: request.query.quick === 'true' }), isClosing, 1);
      return reply.type('application/x-ndjson').send(Readable.from(lines));
    },
  );

  app.post<{ Body: ScrubOptions }>(
    '/v1/scrub',
    { schema: { body: fields({}, { bytesPerSecond: NUMBER }) } },
    async (request, reply) => {
      // It may wait for long between two lines, and ends with the connection all the same.
      const ending = new AbortController();
      reply.raw.once('close', () => ending.abort(new StoreError('CLOSED', 'who asked for it has gone')));
      const lines = linesFor(door.scrub(request.body, ending.signal), isClosing, 1);
      return reply.type('application/x-ndjson').send(Readable.from(lines));
    },
  );

  const thoroughness = fields({ target: NUMBER, purge: FLAG }, { bytesPerSecond: NUMBER });

  app.post<{ Body: ThoroughOptions }>(
    '/v1/compaction/estimate',
    { schema: { body: thoroughness } },
    async (request) => await door.estimateCompaction(request.body),
  );

  app.post<{ Body: ThoroughOptions }>(
    '/v1/compaction',
    { schema: { body: thoroughness } },
    async (request, reply) => {
      const lines = linesFor(door.compact(request.body), isClosing, 1);
      return reply.type('application/x-ndjson').send(Readable.from(lines));
    },
  );

  app.post<{ Body: { isPaused: boolean } }>(
    '/v1/compaction/pause',
    { schema: { body: fields({ isPaused: FLAG }) } },
    async (request) => {
      await door.pauseCompaction(request.body.isPaused);
      return {};
    },
  );

  app.get<{ Querystring: { from: string; to: string } }>(
    '/v1/diff',
    { schema: { querystring: fields({ from: TEXT, to: TEXT }) } },
    async (request, reply) => {
      const { from, to } = request.query;
      // Names that there are not are an answer, not the end of a stream.
      await Promise.all([door.show(from), door.show(to)]);
      return reply
        .type('application/x-ndjson')
        .send(Readable.from(linesFor(door.diff(from, to), isClosing, EXTENTS_AT_ONCE)));
    },
  );

  app.get<{ Querystring: { ghosts?: 'true' | 'false' } }>(
    '/v1/versions/space',
    { schema: { querystring: fields({}, { ghosts: { enum: ['true', 'false'] } }) } },
    async (request) => await door.listWithSpace({ ghosts: request.query.ghosts === 'true' }),
  );

  app.post<{ Body: { names: string[] } }>(
    '/v1/space',
    { schema: { body: fields({ names: TEXTS }) } },
    async (request) => await door.space(request.body.names),
  );

  app.post('/v1/flush', async () => {
    await door.flush();
    return {};
  });

  app.post<{ Body: { name: string; size: number } }>(
    '/v1/create',
    { schema: { body: fields({ name: TEXT, size: NUMBER }) } },
    async (request) => await door.create(request.body.name, request.body.size),
  );

  app.post<{ Body: { names: string[] } }>(
    '/v1/snapshot',
    { schema: { body: fields({ names: TEXTS }) } },
    async (request) => await door.snapshot(request.body.names),
  );

  app.post<{ Body: { source: string; volume: string } }>(
    '/v1/clone',
    { schema: { body: fields({ source: TEXT, volume: TEXT }) } },
    async (request) => await door.clone(request.body.source, request.body.volume),
  );

  app.post<{ Body: { name: string; to: string } }>(
    '/v1/rename',
    { schema: { body: fields({ name: TEXT, to: TEXT }) } },
    async (request) => {
      return await endingLeases(() => door.rename(request.body.name, request.body.to));
    },
  );

  app.post<{ Body: { name: string; size: number } & ResizeOptions }>(
    '/v1/resize',
    { schema: { body: fields({ name: TEXT, size: NUMBER }, { shrink: FLAG, force: FLAG }) } },
    async (request) => {
      const { name, size, ...options } = request.body;
      return await endingLeases(() => door.resize(name, size, options));
    },
  );

  app.post<{ Body: { names: string[] } & DeleteOptions }>(
    '/v1/delete',
    { schema: { body: fields({ names: TEXTS }, { force: FLAG, recursive: FLAG }) } },
    async (request) => {
      const { names, ...options } = request.body;
      leases.end(); // a pause between two requests is no use of a disk
      return await endingLeases(() => door.delete(names, options));
    },
  );

  app.post<{ Body: { name: string } & RollbackOptions }>(
    '/v1/rollback',
    { schema: { body: fields({ name: TEXT }, { force: FLAG }) } },
    async (request) => {
      const { name, ...options } = request.body;
      leases.end();
      return await endingLeases(() => door.rollback(name, options));
    },
  );

  app.post<{ Body: { name: string } }>(
    '/v1/promote',
    { schema: { body: fields({ name: TEXT }) } },
    // Leases have a disk that is only read.
    async (request) => await endingLeases(() => door.promote(request.body.name)),
  );

  app.post<{ Body: { name: string } & DemoteOptions }>(
    '/v1/demote',
    { schema: { body: fields({ name: TEXT }, { force: FLAG, replicaOf: TEXT }) } },
    async (request) => {
      const { name, ...options } = request.body;
      leases.end();
      return await endingLeases(() => door.demote(name, options));
    },
  );

  app.post<{ Body: { name: string } & HoldOptions }>(
    '/v1/hold',
    { schema: { body: fields({ name: TEXT, owner: TEXT }, { reason: TEXT, until: NUMBER }) } },
    async (request) => {
      const { name, ...options } = request.body;
      return await door.hold(name, options);
    },
  );

  app.post<{ Body: { name: string; owner: string } }>(
    '/v1/release',
    { schema: { body: fields({ name: TEXT, owner: TEXT }) } },
    async (request) => await door.release(request.body.name, request.body.owner),
  );

  app.post<{ Body: { name: string; priority: number } }>(
    '/v1/priority',
    { schema: { body: fields({ name: TEXT, priority: NUMBER }) } },
    async (request) => await door.setPriority(request.body.name, request.body.priority),
  );
}

/** The status line has gone by the time a stream fails, so the failure is the last line. */
async function* linesFor<T>(
  items: AsyncGenerator<T>,
  isClosing: () => boolean,
  itemsAtOnce: number,
): AsyncGenerator<string> {
  const line = (content: StreamLine<T>): string => `${JSON.stringify(content)}\n`;
  let lines: string[] = [];
  try {
    for await (const item of items) {
      if (isClosing()) throw new StoreError('CLOSED', 'the server is stopping, and this stopped with it');
      if (lines.push(line({ item })) < itemsAtOnce) continue;
      yield lines.join('');
      lines = [];
    }
    yield lines.join('') + line({ end: true });
  } catch (error) {
    if (!(error instanceof StoreError)) {
      // A programmer's mistake: no reply could tell it, and the server must not go on.
      setImmediate(() => {
        throw error;
      });
      throw error;
    }
    yield lines.join('') + line({ error: encodeError(error) });
  }
}
