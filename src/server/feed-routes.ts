/** The routes about what is replicated. Whether it can be is for the store to say. */

import type { FastifyInstance } from 'fastify';
import type { FeedRequest } from '../volume/feed-changes.ts';
import type { Door } from './door.ts';

const TEXT = { type: 'string' } as const;
const ID = { type: 'object', properties: { id: TEXT }, required: ['id'] } as const;
const PAUSE = {
  type: 'object',
  properties: { id: TEXT, isPaused: { type: 'boolean' } },
  required: ['id', 'isPaused'],
} as const;
const FEED = {
  type: 'object',
  properties: {
    id: TEXT,
    direction: TEXT,
    volume: TEXT,
    address: TEXT,
    peerVolume: TEXT,
    everyMs: { type: 'number' },
    rate: { type: ['number', 'null'] },
    snapshots: TEXT,
  },
  required: ['direction', 'volume', 'address', 'peerVolume', 'everyMs', 'rate', 'snapshots'],
  // It goes into the log as it is.
  additionalProperties: false,
} as const;

export function addFeedRoutes(app: FastifyInstance, { feeds }: Door): void {
  app.get('/v1/feeds', async () => await feeds.list());

  app.post<{ Body: FeedRequest }>(
    '/v1/feed',
    { schema: { body: FEED } },
    async (request) => await feeds.add(request.body),
  );

  app.post<{ Body: { id: string } }>('/v1/feed/remove', { schema: { body: ID } }, async (request) => {
    await feeds.remove(request.body.id);
    return {};
  });

  app.post<{ Body: { id: string; isPaused: boolean } }>(
    '/v1/feed/pause',
    { schema: { body: PAUSE } },
    async (request) => await feeds.pause(request.body.id, request.body.isPaused),
  );

  app.post<{ Body: { id: string } }>(
    '/v1/feed/run',
    { schema: { body: ID } },
    async (request) => await feeds.run(request.body.id),
  );
}
