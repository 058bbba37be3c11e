/** Every planted bug, in the order in which they are tried. */

import type { Fault } from './fault.ts';
import { CHECK_FAULTS } from './faults-of-check.ts';
import { COMPACTION_FAULTS } from './faults-of-compaction.ts';
import { DELTA_FAULTS } from './faults-of-delta.ts';
import { DOOR_FAULTS } from './faults-of-doors.ts';
import { INDEX_FAULTS } from './faults-of-index.ts';
import { LOG_FAULTS } from './faults-of-log.ts';
import { RECOVERY_FAULTS } from './faults-of-recovery.ts';
import { REPAIR_FAULTS } from './faults-of-repair.ts';
import { REPLICATION_FAULTS } from './faults-of-replication.ts';
import { ROOM_FAULTS } from './faults-of-room.ts';
import { SCHEDULE_FAULTS } from './faults-of-schedule.ts';
import { TLS_FAULTS } from './faults-of-tls.ts';
import { VERSION_FAULTS } from './faults-of-versions.ts';
import { VOLUME_FAULTS } from './faults-of-volume.ts';

export const FAULTS: readonly Fault[] = [
  ...LOG_FAULTS,
  ...RECOVERY_FAULTS,
  ...INDEX_FAULTS,
  ...VERSION_FAULTS,
  ...VOLUME_FAULTS,
  ...DELTA_FAULTS,
  ...SCHEDULE_FAULTS,
  ...COMPACTION_FAULTS,
  ...ROOM_FAULTS,
  ...CHECK_FAULTS,
  ...REPAIR_FAULTS,
  ...DOOR_FAULTS,
  ...TLS_FAULTS,
  ...REPLICATION_FAULTS,
];
