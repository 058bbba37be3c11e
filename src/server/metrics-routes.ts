/** The route of metrics: the status of the store, in the text format of Prometheus. */

import type { FastifyInstance } from 'fastify';
import type { Door } from './door.ts';
import { METRICS_CONTENT_TYPE, renderMetrics } from './metrics.ts';

export function addMetricsRoutes(app: FastifyInstance, door: Door): void {
  app.get('/v1/metrics', async (_request, reply) =>
    reply.type(METRICS_CONTENT_TYPE).send(await renderMetrics(await door.status({ atCheckpoint: true }))),
  );
}
