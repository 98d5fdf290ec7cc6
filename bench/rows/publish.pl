# POST /events with everything that the edge does for it, against nginx that only reads the body.
use v5.36;

use Headgate::Bench::Publish qw(publish_row);

return publish_row(
    title    => 'POST /events: JWT HS256 (seen before), plan limit (lease, two windows), JSON checked, XADD acknowledged',
    against  => 'the same nginx reading the body and answering the same 201',
    at_least => 0.68,
    mode     => 'lease',
);
