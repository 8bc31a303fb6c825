// BullMQ's worker: one process at its best concurrency; two of them are started, one for each core.

import { Worker } from "bullmq";
import { NAME, connection } from "./queue.mjs";

const worker = new Worker(NAME, async (job) => job.data, { connection, concurrency: 100 });

process.on("SIGTERM", async () => {
  await worker.close();
  process.exit(0);
});
