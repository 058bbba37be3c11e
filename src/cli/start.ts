/**
 * `npm start`: a store with one volume, served on the loopback address and on a Unix socket, and how to attach to it.
 *
 * Invariants: what is there already is served as it is; nothing listens beyond this machine.
 */

import path from 'node:path';
import { hasCode, StoreError } from '../base/errors.ts';
import { AccessRules } from '../nbd/access-rules.ts';
import { Store } from '../volume/store.ts';
import { type ExitCode, endOf } from './exit-codes.ts';
import { endOnMistake, letHeapGrow } from './process.ts';
import { createLogger, serveUntilSignal } from './serve-command.ts';
import { NBD_SOCKET_NAME } from './nbd-address.ts';
import type { Serving } from './serving.ts';
import { formatSize, parseSize } from './size.ts';
import { printText } from './standard-output.ts';

const HOST = '127.0.0.1';
/** The port that IANA gave to NBD. */
const PORT_DEFAULT = 10809;
const VOLUME = 'disk';
const VOLUME_SIZE = '20G';

async function start(): Promise<ExitCode> {
  const directory = path.resolve(process.env.COPPICE_STORE || 'coppice-data');
  const port = readPort(process.env.COPPICE_PORT);
  await makeIfMissing(() => Store.init(directory));
  const another = port === 65535 ? PORT_DEFAULT : port + 1;
  return await serveUntilSignal(
    {
      directory,
      sockets: [path.join(directory, NBD_SOCKET_NAME)],
      addresses: [{ host: HOST, port }],
      inherited: [],
      access: new AccessRules(),
      otherPort: `choose another like this: COPPICE_PORT=${another} npm start`,
      readOnly: false,
      cacheBytes: undefined,
      compactionRate: undefined,
      limits: {},
      tls: undefined,
      replication: undefined,
      metrics: [],
      logger: createLogger(),
    },
    async (serving) => {
      const hasVolume = serving.store.list().some(({ kind }) => kind === 'volume');
      if (!hasVolume) await serving.store.createVolume(VOLUME, parseSize(VOLUME_SIZE, 'the size'));
      await serving.store.flush();
      printText(describe(serving, directory));
    },
  );
}

function readPort(text: string | undefined): number {
  if (text === undefined || text === '') return PORT_DEFAULT;
  const port = Number(text);
  if (Number.isInteger(port) && port >= 0 && port <= 65535) return port;
  throw new StoreError(
    'INVALID_ARGUMENT',
    `COPPICE_PORT '${text}' is not a port: give a number from 0 to 65535`,
  );
}

async function makeIfMissing(make: () => Promise<void>): Promise<void> {
  try {
    await make();
  } catch (error) {
    if (!hasCode(error, 'ALREADY_EXISTS')) throw error;
  }
}

function describe(serving: Serving, directory: string): string {
  const served = serving.volumes();
  const volume = (served.find((one) => one.volume === VOLUME) ?? served[0]!).volume;
  const uris = served.filter((one) => one.volume === volume).map(({ uri }) => uri);
  const tcp = uris.find((uri) => uri.startsWith('nbd://'))!;
  const port = new URL(tcp).port;
  const size = formatSize(serving.store.show(volume).size);
  return `
Coppice serves volume '${volume}' (${size}) of the store in ${directory}

${uris.map((uri) => `  ${uri}\n`).join('')}
Attach to it from another terminal:

  look at it             nbdinfo ${tcp}
  as a machine's disk    qemu-system-x86_64 -drive file=${tcp},format=raw,if=virtio
  fill it with an image  qemu-img convert -n -O raw IMAGE ${tcp}
  as a block device      nbd-client ${HOST} ${port} /dev/nbd0 -name ${volume}     (as root, after modprobe nbd)
  as a file              mkdir -p mnt && nbdfuse mnt/disk ${tcp}

Snapshots and clones, while it is in use:

  node dist/src/cli/main.js snapshot ${volume}@first
  node dist/src/cli/main.js clone ${volume}@first copy

Ctrl-C stops it; everything written stays.
`;
}

process.umask(0o077);
endOnMistake();
letHeapGrow();
try {
  process.exitCode = await start();
} catch (error) {
  const end = endOf(error);
  if (end === undefined) throw error;
  process.stderr.write(`coppice: ${end.sentence}\n`);
  process.exitCode = end.code;
}
