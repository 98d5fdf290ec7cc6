# POST /events with 64 KiB, which nginx holds in memory.
use v5.36;

use Headgate::Bench::Publish qw(publish_row);

return publish_row(
    title       => 'POST /events with 64 KiB: JWT HS256 (seen before), plan limit (lease, two windows), JSON checked, XADD acknowledged',
    against     => 'the same nginx reading 64 KiB and answering the same 201',
    at_least    => 0.3,
    mode        => 'lease',
    bytes       => 64 * 1024,
    body_buffer => '128k',
);
