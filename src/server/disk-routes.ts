/**
 * The routes to the bytes of a disk.
 *
 * Invariants: a body is never longer than `PIECE_BYTES_MAX`, whatever its header says; a piece of a body is handed
 * to the disk as it came from the socket, without a copy.
 */

import type { FastifyInstance } from 'fastify';
import { StoreError } from '../base/errors.ts';
import type { DiskLeases } from './disk-leases.ts';
import { PIECE_BYTES_MAX, type Run, RUNS_MAX } from './door.ts';

const TEXT = { type: 'string' } as const;
const POSITION = { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER } as const;
/** A position in a query, where everything is text. */
const DIGITS = { type: 'string', pattern: '^[0-9]{1,16}$' } as const;

const NAME = { type: 'object', properties: { name: TEXT }, required: ['name'] } as const;
const RANGE = {
  type: 'object',
  properties: { name: TEXT, offset: POSITION, length: POSITION },
  required: ['name', 'offset', 'length'],
} as const;
const RUNS = {
  type: 'object',
  properties: {
    name: TEXT,
    runs: {
      type: 'array',
      maxItems: RUNS_MAX,
      items: { type: 'array', items: POSITION, minItems: 2, maxItems: 2 },
    },
  },
  required: ['name', 'runs'],
} as const;
const RANGE_QUERY = {
  type: 'object',
  properties: { name: TEXT, offset: DIGITS, length: DIGITS },
  required: ['name', 'offset', 'length'],
} as const;
const PLACE_QUERY = {
  type: 'object',
  properties: { name: TEXT, offset: DIGITS },
  required: ['name', 'offset'],
} as const;

interface Range {
  name: string;
  offset: number;
  length: number;
}

interface RangeQuery {
  name: string;
  offset: string;
  length: string;
}

export function addDiskRoutes(app: FastifyInstance, leases: DiskLeases): void {
  app.addContentTypeParser(
    'application/octet-stream',
    async (_request: unknown, body: AsyncIterable<Buffer>) => await collect(body),
  );

  app.get<{ Querystring: { name: string } }>('/v1/disk', { schema: { querystring: NAME } }, async (request) =>
    leases.use(request.query.name, async ({ name, sizeBytes, readOnly }) => ({ name, sizeBytes, readOnly })),
  );

  app.get<{ Querystring: RangeQuery }>(
    '/v1/disk/bytes',
    { schema: { querystring: RANGE_QUERY } },
    async (request, reply) => {
      const { name, offset, length } = request.query;
      const bytes = await leases.use(name, async (disk) => await disk.read(Number(offset), Number(length)));
      return reply.type('application/octet-stream').send(bytes);
    },
  );

  app.post<{ Body: { name: string; runs: Run[] } }>(
    '/v1/disk/runs',
    { schema: { body: RUNS } },
    async (request, reply) => {
      const { name, runs } = request.body;
      const bytes = await leases.use(name, async (disk) => await disk.readRuns(runs));
      return reply.type('application/octet-stream').send(bytes);
    },
  );

  app.put<{ Querystring: { name: string; offset: string }; Body: Buffer[] | undefined }>(
    '/v1/disk/bytes',
    { schema: { querystring: PLACE_QUERY }, bodyLimit: PIECE_BYTES_MAX },
    async (request) => {
      const { name, offset } = request.query;
      const slices = request.body;
      if (!Array.isArray(slices)) {
        throw new StoreError('INVALID_ARGUMENT', 'bytes to write travel as application/octet-stream');
      }
      await leases.use(name, async (disk) => await disk.write(Number(offset), slices));
      return {};
    },
  );

  app.post<{ Body: Range }>('/v1/disk/zero', { schema: { body: RANGE } }, async (request) => {
    const { name, offset, length } = request.body;
    await leases.use(name, async (disk) => await disk.zero(offset, length));
    return {};
  });

  app.get<{ Querystring: RangeQuery }>(
    '/v1/disk/allocation',
    { schema: { querystring: RANGE_QUERY } },
    async (request) => {
      const { name, offset, length } = request.query;
      return await leases.use(name, async (disk) => await disk.allocation(Number(offset), Number(length)));
    },
  );

  app.post<{ Body: { name: string } }>('/v1/disk/flush', { schema: { body: NAME } }, async (request) => {
    await leases.use(request.body.name, async (disk) => await disk.flush());
    return {};
  });
}

async function collect(body: AsyncIterable<Buffer>): Promise<Buffer[]> {
  const slices: Buffer[] = [];
  let bytes = 0;
  for await (const slice of body) {
    bytes += slice.length;
    if (bytes > PIECE_BYTES_MAX) {
      throw new StoreError('INVALID_ARGUMENT', `a write carries at most ${PIECE_BYTES_MAX} bytes`);
    }
    slices.push(slice);
  }
  return slices;
}
