/**
 * The routes of a receive. What is sent was verified by who reads the stream; here it is checked as far as it could do
 * harm: a head, and where changes lie.
 *
 * Invariant: a body is no longer than one of a frame.
 */

import type { FastifyInstance } from 'fastify';
import { StoreError } from '../base/errors.ts';
import { CHANGES_BYTES_MAX } from '../delta/format.ts';
import type { StreamHead } from '../delta/head.ts';
import type { DiskLeases } from './disk-leases.ts';
import type { Door } from './door.ts';

const TEXT = { type: 'string' } as const;
const SESSION = { type: 'object', properties: { session: TEXT }, required: ['session'] } as const;
const PLACE = {
  type: 'object',
  properties: { session: TEXT, position: { type: 'integer', minimum: 0 } },
  required: ['session', 'position'],
} as const;
const BEGINNING = {
  type: 'object',
  properties: { head: { type: 'object' }, name: TEXT },
  required: ['head', 'name'],
} as const;
const RECEIVE = { type: 'object', properties: { receive: TEXT }, required: ['receive'] } as const;

export function addReceiveRoutes(app: FastifyInstance, door: Door, leases: DiskLeases): void {
  const { receives } = door;

  app.get('/v1/receives', async () => await receives.list());

  app.post<{ Body: { head: StreamHead; name: string } }>(
    '/v1/receive',
    { schema: { body: BEGINNING } },
    async (request) => await receives.begin(request.body.head, request.body.name),
  );

  app.put<{ Querystring: { session: string }; Body: Buffer[] | undefined }>(
    '/v1/receive/changes',
    { schema: { querystring: SESSION }, bodyLimit: CHANGES_BYTES_MAX },
    async (request) => {
      const slices = request.body;
      if (!Array.isArray(slices))
        throw new StoreError('INVALID_ARGUMENT', 'changes travel as application/octet-stream');
      await receives.apply(request.query.session, Buffer.concat(slices));
      return {};
    },
  );

  app.post<{ Body: { session: string; position: number } }>(
    '/v1/receive/advance',
    { schema: { body: PLACE } },
    async (request) => {
      await receives.advance(request.body.session, request.body.position);
      return {};
    },
  );

  app.post<{ Body: { session: string } }>(
    '/v1/receive/publish',
    { schema: { body: SESSION } },
    async (request) => {
      try {
        return { name: await receives.publish(request.body.session) };
      } finally {
        leases.end(); // the head of the volume is another one
      }
    },
  );

  app.post<{ Body: { receive: string } }>(
    '/v1/receive/abort',
    { schema: { body: RECEIVE } },
    async (request) => {
      await receives.abort(request.body.receive);
      return {};
    },
  );
}
