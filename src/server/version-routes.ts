/**
 * The routes about volumes, snapshots and the store as a whole. No invariants of their own: what a field means and
 * whether it is right is for the store to say; here only its type is checked.
 */

import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { StoreError } from '../base/errors.ts';
import type { Finding } from '../volume/summary.ts';
import type { Door } from './door.ts';
import { type CheckLine, CONTROL_PROTOCOL, CONTROL_SERVICE, encodeError, type Hello } from './wire.ts';

const TEXT = { type: 'string' } as const;
const NUMBER = { type: 'number' } as const;

function fields(properties: Record<string, object>): object {
  return { type: 'object', properties, required: Object.keys(properties) };
}

export function addVersionRoutes(app: FastifyInstance, door: Door, isClosing: () => boolean): void {
  app.get('/v1/hello', async (): Promise<Hello> => {
    return { service: CONTROL_SERVICE, protocol: CONTROL_PROTOCOL, pid: process.pid };
  });

  app.get('/v1/versions', async () => await door.list());

  app.get<{ Querystring: { name: string } }>(
    '/v1/version',
    { schema: { querystring: fields({ name: TEXT }) } },
    async (request) => await door.show(request.query.name),
  );

  app.get('/v1/status', async () => await door.status());

  app.get('/v1/check', async (_request, reply) => {
    return reply.type('application/x-ndjson').send(Readable.from(checkLines(door.check(), isClosing)));
  });

  app.post<{ Body: { name: string; size: number } }>(
    '/v1/create',
    { schema: { body: fields({ name: TEXT, size: NUMBER }) } },
    async (request) => await door.create(request.body.name, request.body.size),
  );

  app.post<{ Body: { names: string[] } }>(
    '/v1/snapshot',
    { schema: { body: fields({ names: { type: 'array', items: TEXT } }) } },
    async (request) => await door.snapshot(request.body.names),
  );

  app.post<{ Body: { source: string; volume: string } }>(
    '/v1/clone',
    { schema: { body: fields({ source: TEXT, volume: TEXT }) } },
    async (request) => await door.clone(request.body.source, request.body.volume),
  );
}

/** The status line has gone by the time a check fails, so the failure is the last line. */
async function* checkLines(
  findings: AsyncGenerator<Finding>,
  isClosing: () => boolean,
): AsyncGenerator<string> {
  const line = (content: CheckLine<Finding>): string => `${JSON.stringify(content)}\n`;
  try {
    for await (const finding of findings) {
      if (isClosing())
        throw new StoreError('CLOSED', 'the server is stopping, and the check stopped with it');
      yield line({ finding });
    }
    yield line({ end: true });
  } catch (error) {
    if (!(error instanceof StoreError)) {
      // A programmer's mistake: no reply could tell it, and the server must not go on.
      setImmediate(() => {
        throw error;
      });
      throw error;
    }
    yield line({ error: encodeError(error) });
  }
}
