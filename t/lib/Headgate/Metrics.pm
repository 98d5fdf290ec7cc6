# A strict reader of Prometheus' text format 0.0.4 and of OpenMetrics 1.0, as far as the edge uses them. It refuses what
# `promtool check metrics` complains about, and that program is asked too where it is installed.
package Headgate::Metrics;
use v5.36;

my $NAME   = qr/[a-zA-Z_:][a-zA-Z0-9_:]*/;
my $LABEL  = qr/[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"/;
my %SUFFIX = (counter => '_total', info => '_info', gauge => '');

# Dies with the line at fault; otherwise {family => {type, help, samples => {labels => value}}}. Families keep the names
# of their samples: `x_total` in both formats.
sub parse ($class, $text, %args) {
    my $open = $args{openmetrics};
    die "the text does not end in a line feed\n" if $text !~ /\n\z/;
    my @lines = split /\n/, $text;
    if ($open) { pop(@lines) eq '# EOF' or die "the last line is not # EOF\n" }

    my (%families, %closed, $name, $current);
    for my $line (@lines) {
        my $bad = sub ($why) { die "$why: $line\n" };
        if ($line =~ /\A# HELP ($NAME) (\S.*)\z/) {
            $closed{$name} = 1 if defined $name;
            $name = $1;
            $bad->('a family comes twice') if $closed{$name};
            $current = { help => $2 };
            next;
        }
        if ($line =~ /\A# TYPE ($NAME) (counter|gauge|info)\z/) {
            $bad->('TYPE without HELP before it') if !defined $name || $1 ne $name || defined $current->{type};
            my $type = $current->{type} = $2;
            $bad->('info is a type of OpenMetrics only') if $type eq 'info' && !$open;
            my $sample_name = $name . ($open ? $SUFFIX{$type} : '');
            $bad->('a counter does not end in _total') if $type eq 'counter' && $sample_name !~ /_total\z/;
            $bad->('what ends in _total is no counter') if $type ne 'counter' && $sample_name =~ /_total\z/;
            $families{$sample_name} = $current;
            $current->{name} = $sample_name;
            next;
        }
        $line =~ /\A($NAME)(?:\{((?:$LABEL)(?:,$LABEL)*)\})? (\d+(?:\.\d+)?)\z/ or $bad->('not a line of the format');
        my ($sample, $labels, $value) = ($1, $2 // '', $3);
        $bad->('a sample outside its family') if !defined $current->{type} || $sample ne $current->{name};
        $bad->('a sample comes twice') if exists $current->{samples}{$labels};
        $current->{samples}{$labels} = $value;
    }
    for my $family (values %families) { die "no sample of $family->{name}\n" if !$family->{samples} }
    return \%families;
}

# What promtool says of the text, or undef where there is none.
sub promtool ($class, $file) {
    my ($promtool) = grep { -x } map { "$_/promtool" } split /:/, $ENV{PATH};
    return undef if !$promtool;
    my $said = `$promtool check metrics <\Q$file\E 2>&1`;
    return $? == 0 ? '' : "exit code $?: $said";
}

1;
