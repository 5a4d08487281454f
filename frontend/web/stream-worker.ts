// Runs once for all tabs of a browser: holds their streams, since a browser has only six connections
// to a host that speaks HTTP/1.1.

import { SharedStreams, type News, type Order } from "./streams/shared";

const streams = new SharedStreams();

addEventListener("connect", (event) => {
  const [port] = (event as MessageEvent).ports;
  if (!port) return;
  const follower = { tell: (news: News) => port.postMessage(news) };
  port.addEventListener("message", ({ data }: MessageEvent<Order>) => {
    if (data.order === "follow") streams.follow(follower, data.address, data.place);
    else streams.leave(follower);
  });
  port.addEventListener("close", () => streams.leave(follower)); // of a tab that crashed
  port.start();
});
