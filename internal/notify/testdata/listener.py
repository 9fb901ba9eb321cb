# SPDX-License-Identifier: Apache-2.0
#
# A notification listener as other OpenStack services have one, with
# oslo.messaging as it comes: prints each notification as a line of JSON.
#
#	listener.py TRANSPORT_URL EXCHANGE TOPIC NUMBER

import json
import sys
import threading

from oslo_config import cfg
import oslo_messaging

url, exchange, topic, number = sys.argv[1:]
left = int(number)
done = threading.Event()
lock = threading.Lock()


class Endpoint:
    def take(self, priority, ctxt, publisher_id, event_type, payload, metadata):
        global left
        with lock:
            print(json.dumps({
                'method': priority, 'context': ctxt, 'publisher_id': publisher_id, 'event_type': event_type,
                'payload': payload, 'metadata': metadata,
            }), flush=True)
            left -= 1
            if left <= 0:
                done.set()

    def info(self, *args):
        self.take('info', *args)

    def error(self, *args):
        self.take('error', *args)


conf = cfg.ConfigOpts()
conf([], project='listener')
oslo_messaging.set_transport_defaults(exchange)
transport = oslo_messaging.get_notification_transport(conf, url=url)
listener = oslo_messaging.get_notification_listener(
    transport, [oslo_messaging.Target(topic=topic)], [Endpoint()], executor='threading')
listener.start()
print('"listening"', flush=True)
ok = done.wait(60)
listener.stop()
listener.wait()
sys.exit(0 if ok else 1)
