// A server whose store never compacts by itself, in a process of its own: what compaction costs is told against it.

import { once } from 'node:events';
import path from 'node:path';
import { createLogger } from '../../src/cli/serve-command.ts';
import { NbdServer } from '../../src/nbd/server.ts';
import { ControlServer } from '../../src/server/control-server.ts';
import { StoreDoor } from '../../src/server/store-door.ts';
import { Store } from '../../src/volume/store.ts';

const CLIENTS_MS_MAX = 1_000;

/** Serves all of a store as `coppice serve` does, until SIGTERM. */
export async function serveUncompacted(directory: string): Promise<void> {
  const logger = createLogger();
  const store = await Store.open(directory, { logger, compacts: false });
  const control = new ControlServer({ door: new StoreDoor(store), logger });
  const nbd = new NbdServer({
    exports: {
      list: () => store.names(),
      open: (name) => store.device(name),
      describe: () => '',
    },
    logger,
  });
  const stopped = once(process, 'SIGTERM');
  await control.listen(path.join(directory, 'control.sock'));
  await nbd.listenUnix(path.join(directory, 'nbd.sock'));
  await stopped;
  await nbd.close(CLIENTS_MS_MAX);
  await control.close(CLIENTS_MS_MAX);
  await store.close();
}
