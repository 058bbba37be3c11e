/** The other half of the seeds of the simulated disk. */

import { simulate } from './suite.ts';

simulate('odd');
