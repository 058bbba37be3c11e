/**
 * The routes of schedules. What rules mean, and whether they are right, is for the store to say; here only types are checked.
 */

import type { FastifyInstance } from 'fastify';
import type { ScheduleSettings } from '../schedule/schedule.ts';
import type { PruneOptions } from '../volume/schedules.ts';
import type { DiskLeases } from './disk-leases.ts';
import type { Door } from './door.ts';

const TEXT = { type: 'string' } as const;
const TEXT_OR_NONE = { type: ['string', 'null'] } as const;
const RULE = {
  type: 'object',
  properties: { name: TEXT, cron: TEXT, keep: { type: 'number' } },
  required: ['name', 'cron', 'keep'],
} as const;
const SETTINGS = {
  type: ['object', 'null'],
  properties: {
    timeZone: TEXT,
    rules: { type: 'array', items: RULE },
    hookBefore: TEXT_OR_NONE,
    hookAfter: TEXT_OR_NONE,
  },
  required: ['timeZone', 'rules', 'hookBefore', 'hookAfter'],
} as const;
const SETTING = {
  type: 'object',
  properties: { volume: TEXT, settings: SETTINGS },
  required: ['volume', 'settings'],
} as const;
const PRUNING = {
  type: 'object',
  properties: { volume: TEXT, dryRun: { type: 'boolean' } },
  required: ['dryRun'],
} as const;

export function addScheduleRoutes(app: FastifyInstance, door: Door, leases: DiskLeases): void {
  const { schedules } = door;

  app.get('/v1/schedules', async () => await schedules.list());

  app.post<{ Body: { volume: string; settings: ScheduleSettings | null } }>(
    '/v1/schedule',
    { schema: { body: SETTING } },
    async (request, reply) => {
      const summary = await schedules.set(request.body.volume, request.body.settings);
      // Sent as a text, because a null would be no answer at all.
      return await reply.type('application/json').send(JSON.stringify(summary));
    },
  );

  app.post<{ Body: PruneOptions }>('/v1/prune', { schema: { body: PRUNING } }, async (request) => {
    leases.end(); // a pause between two requests is no use of a disk
    return await schedules.prune(request.body);
  });
}
