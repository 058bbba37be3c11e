/** The routes about what is replicated. Whether it can be is for the store to say. */

import type { FastifyInstance } from 'fastify';
import type { FeedRequest } from '../volume/feed-changes.ts';
import type { Door } from './door.ts';

const TEXT = { type: 'string' } as const;
const DIRECTION = { type: 'string', enum: ['push', 'pull'] } as const;
const ONE = {
  type: 'object',
  properties: { id: TEXT, direction: DIRECTION },
  required: ['id', 'direction'],
} as const;
const PAUSE = {
  type: 'object',
  properties: { id: TEXT, isPaused: { type: 'boolean' }, direction: DIRECTION },
  required: ['id', 'isPaused', 'direction'],
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

/** Ids are one list: whoever names a target by the id of a source is told so. */
interface One {
  readonly id: string;
  readonly direction: FeedRequest['direction'];
}

export function addFeedRoutes(app: FastifyInstance, { feeds }: Door): void {
  app.get('/v1/feeds', async () => await feeds.list());

  app.post<{ Body: FeedRequest }>(
    '/v1/feed',
    { schema: { body: FEED } },
    async (request) => await feeds.add(request.body),
  );

  app.post<{ Body: One }>('/v1/feed/remove', { schema: { body: ONE } }, async (request) => {
    await feeds.remove(request.body.id, request.body.direction);
    return {};
  });

  app.post<{ Body: One & { isPaused: boolean } }>(
    '/v1/feed/pause',
    { schema: { body: PAUSE } },
    async ({ body }) => await feeds.pause(body.id, body.isPaused, body.direction),
  );

  app.post<{ Body: One }>(
    '/v1/feed/run',
    { schema: { body: ONE } },
    async ({ body }) => await feeds.run(body.id, body.direction),
  );
}
