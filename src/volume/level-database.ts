/** LevelDB as the index uses it. Values are packed already, and checked by us. */

import { Level } from 'level';
import type { IndexDatabase } from '../index/directory.ts';

export async function openLevel(location: string): Promise<IndexDatabase> {
  const database = new Level<Buffer, Buffer>(location, {
    keyEncoding: 'buffer',
    valueEncoding: 'buffer',
    compression: false,
    cacheSize: 16 << 20,
    writeBufferSize: 8 << 20,
    maxFileSize: 8 << 20,
  } as object);
  await database.open();
  return database as unknown as IndexDatabase;
}
