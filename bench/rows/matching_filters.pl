# What webhooks cost whose filters refuse an event: each wants another value of a field.
use v5.36;
use utf8;

use Headgate::Bench::Matching qw(matching_row);

return matching_row(
    name       => 'matching_filters',
    which      => 'that want other values',
    changes    => q{events = '["*"]', event_filters = '{"order_id":"nobody-' || i || '"}'},
    conditions => ['all webhooks want every type, and one order_id, which is none of these; all of one organization, and each is counted hourly'],
);
