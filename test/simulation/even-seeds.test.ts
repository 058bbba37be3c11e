/** Half of the seeds of the simulated disk that the suite runs: two files, so that two cores have one each. */

import { simulate } from './suite.ts';

simulate('even');
