// BullMQ's verbs, the same as every contender's: one process does one, and prints JSON with the seconds.
// Results are the return values that completed jobs keep; where nobody wants them, the job is removed.

import { Queue, QueueEvents } from "bullmq";
import { NAME, connection } from "./queue.mjs";

const [verb, words] = process.argv.slice(2);
const count = Number(words ?? 0);
const queue = new Queue(NAME, { connection });

async function timed(work) {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

async function each(options) {
  await queue.add("nothing", 0, options); // the connection is opened by the first one
  return timed(async () => {
    for (let number = 0; number < count - 1; number++) await queue.add("nothing", number, options);
  });
}

async function bulk() {
  await queue.addBulk([{ name: "nothing", data: 0 }]); // connections and caches are opened by the first one
  return timed(async () => {
    for (let start = 1; start < count; start += 1000) {
      const some = Math.min(1000, count - start);
      await queue.addBulk(Array.from({ length: some }, (_, n) => ({ name: "nothing", data: start + n })));
    }
  });
}

async function roundTrips() {
  const events = new QueueEvents(NAME, { connection });
  await events.waitUntilReady();
  const trips = [];
  while (trips.length < count) {
    trips.push(
      await timed(async () => {
        const job = await queue.add("nothing", trips.length);
        await job.waitUntilFinished(events, 30000);
      }),
    );
  }
  await events.close();
  return trips;
}

const VERBS = {
  prepare: async () => undefined,
  send: () => each({}),
  "send-bulk": bulk,
  "send-ignored": () => each({ removeOnComplete: true }),
  "round-trips": roundTrips,
};

const measured = await (VERBS[verb] ?? (() => null))();
if (measured !== undefined) console.log(JSON.stringify(measured));
await queue.close();
