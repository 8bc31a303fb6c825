// BullMQ's queue on the round's Redis: its name, and how to connect to the server.

const address = new URL(process.env.BENCH_REDIS);

export const NAME = "bench";
export const connection = {
  host: address.hostname,
  port: Number(address.port),
  maxRetriesPerRequest: null,
};
